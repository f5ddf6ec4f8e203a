"""Log in each validation whether the coefficients follow the image."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_dynet.analysis.coefficients import (
    CoefficientRecorder,
    average,
    dynamic_layers,
)

from .unwrap import unwrapped_model


class CoefficientHook(Hook):
    r"""Log what the coefficients do over the images of each validation.

    ::

        python tools/train.py CONFIG --cfg-options \
            default_hooks.coefficients.type=CoefficientHook

    A new name among ``default_hooks`` adds a hook and keeps all others. The values are
    in the record of the validation, beside the mIoU, as ``coefficients/NAME``: mean,
    between_image_std, between_image_share, dead and saturated of
    :class:`mmseg_dynet.analysis.coefficients.CoefficientSummary`, averaged over all
    fixed kernels of the network.

    Of several processes, the first logs the images that it sees itself.

    Args:
        per_layer: Whether to log the values of each layer as well, as
            ``coefficients/LAYER/NAME``.

    Raises:
        ValueError: When training or a validation begins: the network is static. At the
            end of a validation: it had fewer than two images.
    """

    def __init__(self, per_layer: bool = False) -> None:
        self.per_layer = per_layer

    def before_train(self, runner: Runner) -> None:
        """Refuse a static network at once, not only when it is validated."""
        model = unwrapped_model(runner)
        if not dynamic_layers(model):
            raise ValueError(
                f"CoefficientHook has nothing to log of {type(model).__name__}, which "
                "is static (no DyConv2d): leave the hook out, or take a dynamic "
                "network, as configs/*/dy-*.py build it"
            )

    before_val = before_train

    def before_val_epoch(self, runner: Runner) -> None:
        """Begin a record."""
        self._recorder = CoefficientRecorder(unwrapped_model(runner))

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """End it, and give its values to what LoggerHook logs next."""
        self._recorder.remove()
        layers = self._recorder.summarize()
        scalars = average(layers)
        if self.per_layer:
            for name, layer in layers.items():
                scalars |= {f"{name}/{k}": v for k, v in layer.scalars().items()}
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f"val/coefficients/{name}", value)
