"""Small hooks for MMEngine's Runner."""

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_dynet.analysis.coefficients import CoefficientRecorder, average
from mmseg_dynet.ops import CoefficientPredictor

REMEDY = (
    "Run again with --resume and clipped gradients (optim_wrapper.clip_grad="
    "dict(max_norm=1) in the config), or start again with a lower "
    "optim_wrapper.optimizer.lr; --resume would keep the checkpoint's"
)


def unwrapped_model(runner: Runner) -> nn.Module:
    """The model itself, also in distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


class ChannelsLastHook(Hook):
    """Lay out the model's weights in channels_last; feature maps then use it, too.

    Convolutions on CPUs, and in half precision on GPUs, compute in this format. (On a
    GPU, dynamic 3x3 convolutions of several images return contiguous tensors.) Values
    are the same up to rounding, and checkpoints load in either format.
    """

    def before_run(self, runner: Runner) -> None:
        """Convert before anything runs, since a run may begin with a validation."""
        unwrapped_model(runner).to(memory_format=torch.channels_last)


class CoefficientHook(Hook):
    """Log statistics of the coefficients over the images of each validation.

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
        if is_main_process():
            for name, value in average(self._recorder.summarize()).items():
                runner.message_hub.update_scalar(f"val/coefficients/{name}", value)


class TemperatureHook(Hook):
    """Lower the temperature of the coefficients' softmax linearly, as DY-Conv does.

    It is ``start`` in the first iteration, and ``end`` from ``iterations`` on. It
    depends on the iteration alone, so a resumed run has that of an uninterrupted one.

    Raises:
        ValueError: A number is not positive. When training begins: no temperature.
    """

    def __init__(self, iterations: int, start: float = 30.0, end: float = 1.0) -> None:
        if iterations < 1 or min(start, end) <= 0:
            raise ValueError(f"{iterations=}, {start=} and {end=} must be positive")
        self.iterations, self.start, self.end = iterations, start, end

    def before_train(self, runner: Runner) -> None:
        """Find the temperatures, with those that EMAHook would average."""
        averages = [h.ema_model for h in runner.hooks if isinstance(h, EMAHook)]
        modules = nn.ModuleList([unwrapped_model(runner), *averages]).modules()
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


class FiniteLossHook(Hook):
    """Stop when a loss becomes NaN or infinite, before it reaches a checkpoint.

    An optimizer step with such a loss would destroy all weights. Loss scaling skips it,
    but batch norms may keep what has overflowed. A gradient can overflow where the loss
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
                f"{REMEDY}"
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
                f"{REMEDY}"
            )
