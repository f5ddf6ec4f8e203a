"""Checkpoints that are complete or absent, however the training ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """MMEngine's CheckpointHook, but a crash never destroys the last checkpoint.

    MMEngine writes checkpoints in place, and removes the oldest one, or the last best
    one, before it writes the next. Here a file is renamed into place once complete, and
    old ones are removed after that. A killed process may leave a hidden file
    ``.*.partial.pth``, which a resumed run replaces at the same iteration.

    Takes the arguments of CheckpointHook. With ``backend_args``, or an ``out_dir`` on
    remote storage, files are written by that backend. MMEngine's FlexibleRunner writes
    checkpoints itself, in place.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        local = "://" not in str(self.out_dir or "")
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend=BACKEND)

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
