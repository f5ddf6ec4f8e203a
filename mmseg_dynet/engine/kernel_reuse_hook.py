"""Keep kernels from frame to frame while a run validates or tests."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmseg_dynet.deploy.kernel_reuse import KernelReuse, check_whole_frames

from .unwrap import unwrapped_model


class KernelReuseHook(Hook):
    r"""Keep fused kernels for ``every`` frames while a run validates or tests.

    The mIoU that comes out, against that of a plain test, is what
    :class:`mmseg_dynet.deploy.kernel_reuse.KernelReuse` costs in accuracy::

        python tools/test.py CONFIG CHECKPOINT --cfg-options \
            default_hooks.kernel_reuse.type=KernelReuseHook \
            default_hooks.kernel_reuse.every=5

    A new name among ``default_hooks`` adds a hook and keeps all others. An option
    ``custom_hooks`` would replace the config's whole list, and MMEngine reads no
    ``dict(...)`` from the command line.

    The loader must give one frame at a time, in the order of the video, as those of
    MMSegmentation's configs do. Of several processes each sees every n-th frame only
    and keeps kernels for n times as long: measure in one. Kernels are kept across the
    border between two videos of a data set.

    Args:
        every: As in KernelReuse.

    Raises:
        ValueError: When testing begins: ``every`` is below 1, the test augments, the
            loader gives several frames at a time, or the segmentor cuts frames into
            windows.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def before_val_epoch(self, runner: Runner) -> None:
        """Begin with a key frame."""
        self._begin(runner, runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Begin with a key frame."""
        self._begin(runner, runner.test_dataloader)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Leave the model as it was."""
        self._reuse.remove()

    after_test_epoch = after_val_epoch

    def _begin(self, runner: Runner, frames: DataLoader) -> None:
        model = unwrapped_model(runner)
        if isinstance(model, BaseTTAModel):
            raise ValueError(
                "a test with augmentation sees each frame in several views, of which "
                "none is the next frame of the other: leave out --tta, or "
                "KernelReuseHook"
            )
        if frames.batch_size != 1:
            raise ValueError(
                f"the loader gives {frames.batch_size} frames at a time, of which each "
                "would get the kernels of another: set val_dataloader.batch_size=1 and "
                "test_dataloader.batch_size=1"
            )
        check_whole_frames(model)
        self._reuse = KernelReuse(model, self.every)
