"""Checkpoints that are complete or absent, however the training ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmseg_dynet.files import replacing

BACKEND = "atomic"
"""Name of :class:`AtomicBackend` among MMEngine's file backends."""


class AtomicBackend(LocalBackend):
    """Local files that are replaced only when the new content is on the disk."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file, or leave the old one in place if that fails."""
        with replacing(Path(filepath)) as partial, partial.open("wb") as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())


class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, except that a crash never costs the last checkpoint.

    MMEngine writes checkpoints in place, and removes the oldest one, or the last best
    one, before it writes the next. Here a file gets its name when it is complete, and
    old ones are removed after that. A killed process leaves at most one file
    ``.*.partial.pth``, which the next training in the folder removes.

    Takes the arguments of CheckpointHook. With ``backend_args``, or an ``out_dir`` on
    remote storage, files are written by that backend.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        local = "://" not in str(self.out_dir or "")
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend=BACKEND)

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed process has left of a file."""
        super().before_train(runner)
        if is_main_process() and isinstance(self.file_backend, AtomicBackend):
            for partial in Path(self.out_dir).glob(".*.partial.pth"):
                partial.unlink(missing_ok=True)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save a best checkpoint, then remove the previous one."""
        if not self.save_best:
            return
        with self._removing_last():
            super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._removing_last():
            super()._save_checkpoint_with_step(runner, step, meta)

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        """Postpone what is removed in the block to its end, unless it raises."""
        backend, removed = self.file_backend, []
        remove, backend.remove = backend.remove, removed.append
        try:
            yield
        finally:
            backend.remove = remove
        # A filename_tmpl without a number gives the new file the name of the old one.
        best = getattr(self, "best_ckpt_path_dict", {}).values()
        new = {self.last_ckpt, getattr(self, "best_ckpt_path", None), *best}
        for path in removed:
            if path not in new:
                remove(path)
