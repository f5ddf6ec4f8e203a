"""Small hooks for MMEngine's Runner."""

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_dynet.analysis.coefficients import CoefficientRecorder, average
from mmseg_dynet.deploy.kernel_reuse import KernelReuse, check_whole_frames
from mmseg_dynet.ops import CoefficientPredictor


def unwrapped_model(runner: Runner) -> nn.Module:
    """The model itself, also in distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


class ChannelsLastHook(Hook):
    """Lay out the model's weights in channels_last; feature maps follow them.

    Convolutions on CPUs, and in half precision on GPUs, compute in this format. (On a
    GPU, dynamic 3x3 convolutions of several images return the other one.) Values are
    the same up to rounding, and checkpoints load in either format.
    """

    def before_run(self, runner: Runner) -> None:
        """Convert before anything runs, since a run may begin with a validation."""
        unwrapped_model(runner).to(memory_format=torch.channels_last)


class CoefficientHook(Hook):
    r"""Log statistics of the coefficients over the images of each validation.

    ::

        python tools/train.py CONFIG --cfg-options \
            default_hooks.coefficients.type=CoefficientHook

    They are logged beside the mIoU as ``coefficients/NAME``: mean, between_image_std,
    between_image_share, dead and saturated of
    :class:`mmseg_dynet.analysis.coefficients.CoefficientSummary`, averaged over all
    fixed kernels of the network. In distributed training, the first process logs the
    images that it sees itself.

    Raises:
        ValueError: The network is static, or a validation had fewer than two images.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuse a static network at once, rather than when it is validated."""
        CoefficientRecorder(unwrapped_model(runner)).remove()

    before_val = before_train

    def before_val_epoch(self, runner: Runner) -> None:
        """Start recording."""
        self._recorder = CoefficientRecorder(unwrapped_model(runner))

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Stop recording, and pass the values to LoggerHook."""
        self._recorder.remove()
        for name, value in average(self._recorder.summarize()).items():
            runner.message_hub.update_scalar(f"val/coefficients/{name}", value)


class TemperatureHook(Hook):
    """Lower the temperature of the coefficients' softmax linearly, as DY-Conv does.

    It is ``start`` in the first iteration, and ``end`` from ``iterations`` on. It
    depends on the iteration alone, so a resumed run has that of an undisturbed one.

    Raises:
        ValueError: A number is not positive. When training begins: no temperature.
    """

    def __init__(self, iterations: int, start: float = 30.0, end: float = 1.0) -> None:
        if iterations < 1 or min(start, end) <= 0:
            raise ValueError(f"{iterations=}, {start=} and {end=} must be positive")
        self.iterations, self.start, self.end = iterations, start, end

    def before_train(self, runner: Runner) -> None:
        """Find the temperatures."""
        modules = unwrapped_model(runner).modules()
        predictors = [m for m in modules if isinstance(m, CoefficientPredictor)]
        self._temperatures = [
            p.temperature for p in predictors if p.options.normaliser == "softmax"
        ]
        if not self._temperatures:
            raise ValueError(
                "no coefficient has a temperature: remove TemperatureHook, or set "
                "coefficients=dict(normaliser='softmax') in the dynamic network"
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the temperature of an iteration."""
        share = min(runner.iter / self.iterations, 1)
        for temperature in self._temperatures:
            temperature.fill_(self.start + share * (self.end - self.start))


class KernelReuseHook(Hook):
    r"""Keep fused kernels for ``every`` frames while a run validates or tests.

    The difference in mIoU to a plain test is what
    :class:`mmseg_dynet.deploy.kernel_reuse.KernelReuse` costs in accuracy::

        python tools/test.py CONFIG CHECKPOINT --cfg-options \
            default_hooks.kernel_reuse.type=KernelReuseHook \
            default_hooks.kernel_reuse.every=5

    The loader must yield one frame at a time, in the order of the video, to one
    process. Kernels are also kept from the end of a video to the start of the next.

    Raises:
        ValueError: ``every`` is below 1, or frames do not come whole and one by one.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        if mode == "train":
            return
        model, frames = unwrapped_model(runner), getattr(runner, f"{mode}_dataloader")
        if isinstance(model, BaseTTAModel):
            raise ValueError(
                "views of a frame must not share kernels: no --tta with KernelReuseHook"
            )
        if frames.batch_size != 1:
            raise ValueError(
                f"the loader yields {frames.batch_size} frames at a time, which must "
                "not share kernels: set val_dataloader.batch_size=1 and "
                "test_dataloader.batch_size=1"
            )
        check_whole_frames(model)
        self._reuse = KernelReuse(model, self.every)

    def _after_epoch(self, runner: Runner, mode: str = "train") -> None:
        if mode != "train":
            self._reuse.remove()


class FiniteLossHook(Hook):
    """Stop when a loss becomes NaN or infinite, before it reaches a checkpoint.

    The step that follows such a loss destroys all weights. Loss scaling skips it, but
    batch norms may keep what has overflowed. A gradient can overflow where the loss
    does not, so what is trained is checked before a checkpoint is saved, as well.
    MMEngine waits for the losses in each iteration anyway, to log them.

    Raises:
        FloatingPointError: In such an iteration, or instead of saving.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Check the losses of an iteration: all whose names contain "loss"."""
        lost = [
            f"{name}={value.tolist()}"
            for name, value in (outputs or {}).items()
            if "loss" in name and isinstance(value, Tensor)
            if not value.isfinite().all()
        ]
        if lost:
            batch = data_batch if isinstance(data_batch, dict) else {}
            images = [str(s.get("img_path")) for s in batch.get("data_samples", [])]
            raise FloatingPointError(
                f"iteration {runner.iter + 1} ended with {', '.join(lost)} (images: "
                f"{', '.join(images[:8])}). Earlier checkpoints are good. "
                f"{self._remedy(runner)}"
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check what is trained, not buffers: an observer may hold infinities."""
        weights = checkpoint["state_dict"]
        lost = [
            name
            for name, parameter in unwrapped_model(runner).named_parameters()
            if parameter.requires_grad and name in weights
            if not weights[name].isfinite().all()
        ]
        if lost:
            raise FloatingPointError(
                f"{len(lost)} parameters are NaN or infinite ({', '.join(lost[:5])}"
                f"{', ...' if len(lost) > 5 else ''}) and are not saved. "
                f"{self._remedy(runner)}"
            )

    @staticmethod
    def _remedy(runner: Runner) -> str:
        # MMEngine takes "_delete_" only where there is something to replace.
        key, wrapper = "optim_wrapper.clip_grad", runner.cfg.get("optim_wrapper") or {}
        replace = f"{key}._delete_=True " if "clip_grad" in wrapper else ""
        return (
            "Run again with --resume and clipped gradients (--cfg-options "
            f"{replace}{key}.max_norm=1), or start again with a lower "
            "optim_wrapper.optimizer.lr; --resume would keep the checkpoint's"
        )
