"""Stop a training that has lost its numbers."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmseg_dynet.messages import some

REMEDY = (
    "Go on from an earlier checkpoint with a lower optim_wrapper.optimizer.lr or with "
    "optim_wrapper.clip_grad.max_norm=1"
)


class FiniteLossHook(Hook):
    """Stop before a loss or a weight that is NaN or infinite gets into a checkpoint.

    A step with such a loss spoils all weights. It is looked at in every iteration, and
    before any checkpoint is saved; MMEngine waits for the loss anyway, to log it.
    Before a checkpoint is saved, the weights are looked at as well: a gradient can
    overflow where the loss does not.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at all losses of an iteration.

        Raises:
            FloatingPointError: One is NaN or infinite.
        """
        lost = [
            f"{name}={value.tolist()}"
            for name, value in (outputs or {}).items()
            if isinstance(value, Tensor) and not value.isfinite().all()
        ]
        if lost:
            raise FloatingPointError(
                f"iteration {runner.iter + 1} ended with {', '.join(lost)}: training "
                "stops, and no checkpoint has been saved since. Its images are "
                f"{some(_images(data_batch))}. {REMEDY}"
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at all weights.

        Raises:
            FloatingPointError: One is NaN or infinite.
        """
        lost = [
            name
            for name, weight in checkpoint["state_dict"].items()
            if isinstance(weight, Tensor) and not weight.isfinite().all()
        ]
        if lost:
            raise FloatingPointError(
                f"{len(lost)} weights are not finite ({some(lost)}): they are not "
                f"saved. {REMEDY}"
            )


def _images(data_batch: dict | None) -> list[str]:
    samples = (data_batch or {}).get("data_samples", [])
    return [sample.get("img_path", "unknown") for sample in samples]
