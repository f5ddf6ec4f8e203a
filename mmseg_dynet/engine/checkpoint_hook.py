"""Checkpoints that are whole or absent, whatever ends the training."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmseg_dynet.files import replacing

BACKEND = "whole"
"""Name of :class:`WholeFileBackend` among MMEngine's file backends."""


class WholeFileBackend(LocalBackend):
    """Local files that are whole or absent, also after a crash of the machine."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file, replacing one of its name only when all of it is on the disk.

        Raises:
            OSError: There is no room, or another reason of the system. Nothing is left
                of the file, and one that had its name is still there.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path) as partial, partial.open("wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(path.parent)  # the new name
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}; earlier checkpoints are as they were: make room "
                "and go on with --resume",
                str(path),
            ) from error


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no such thing.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, which never leaves less than it found.

    A checkpoint and ``last_checkpoint`` are whole or absent, and an old checkpoint is
    removed only when the one that replaces it is on the disk. MMEngine writes them in
    place, and removes first.

    A killed process leaves at most one file ``.*.partial*``, which the next training in
    the folder removes.

    Takes the arguments of CheckpointHook. Where ``out_dir`` is no local folder, or a
    file backend is given, that backend writes, and the promise is its own.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        local = "://" not in str(self.out_dir or "")
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend=BACKEND)

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed process has left of a file, too."""
        super().before_train(runner)
        if is_main_process() and isinstance(self.file_backend, WholeFileBackend):
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for pattern in (".*.partial.pth", ".last_checkpoint.*.partial"):
                    for partial in folder.glob(pattern):
                        partial.unlink(missing_ok=True)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save a best checkpoint before the previous best one is removed."""
        if not self.save_best:
            return
        with self._removing_last():
            super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, then its name, then remove the one that is one too many.

        Takes the place of MMEngine's method, which knows no other order.
        """
        outdated = []
        if self.max_keep_ckpts > 0 and step not in [*self.keep_ckpt_ids][-1:]:
            keep = [*self.keep_ckpt_ids, step]
            outdated = keep[: -self.max_keep_ckpts]
            self.keep_ckpt_ids.append(step)  # drops the first by itself
            # With the outdated ones: a run that resumes removes those that a killed one
            # did not get to.
            runner.message_hub.update_info("keep_ckpt_ids", keep)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            pointer = Path(runner.work_dir) / "last_checkpoint"
            WholeFileBackend().put(str(self.last_ckpt).encode(), pointer)
            for old in outdated:
                path = self.file_backend.join_path(
                    self.out_dir, self.filename_tmpl.format(old)
                )
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        """Remove only after the block what it removes from the file backend."""
        backend = self.file_backend
        self.file_backend = later = _RemoveLater(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        for path in later.removed:
            backend.remove(path)


class _RemoveLater:
    """A file backend that takes down what to remove, and does all else."""

    def __init__(self, backend: object) -> None:
        self.backend = backend
        self.removed: list[str] = []

    def remove(self, path: str) -> None:
        self.removed.append(path)

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)
