"""Check that the weights of a checkpoint are all there: MMEngine loads what fits."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.model.weight_init import PretrainedInit
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn

from mmseg_dynet.messages import some

from .unwrap import unwrapped_model


class CheckPretrainedHook(Hook):
    """Stop before training unless ``init_cfg`` fills all weights of its module.

    MMEngine loads what fits of a checkpoint and merely logs the rest, among thousands
    of lines. A backbone with another stem or width would train on from random weights,
    and its comparison with a twin that got all of its own would be worthless.

    Every ``init_cfg=dict(type="Pretrained", ...)`` of the model is looked at. What the
    checkpoint has beyond the module, such as the last stage of a classifier, does not
    matter.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare names and shapes with those in the checkpoints.

        Raises:
            ValueError: A checkpoint lacks a weight or has it in another shape.
        """
        for name, module in unwrapped_model(runner).named_modules():
            for init_cfg in _pretrained(module):
                checkpoint, prefix = init_cfg["checkpoint"], init_cfg.get("prefix")
                try:
                    check_weights(module, checkpoint, prefix)
                except ValueError as error:
                    raise ValueError(
                        f"{name or 'the model'}, init_cfg with prefix {prefix!r}: "
                        f"{error}, or take CheckPretrainedHook out of custom_hooks to "
                        "start these weights at random"
                    ) from error


def check_weights(
    module: nn.Module,
    checkpoint: str,
    prefix: str | None = None,
    unused: str | None = None,
) -> None:
    """Raise a ValueError unless a checkpoint fills all weights of a module.

    What the checkpoint has beyond the module does not matter, nor does the number of
    batches that a norm has seen.

    Args:
        module: What the weights are for.
        checkpoint: As MMEngine loads it.
        prefix: Of the module's weights in the checkpoint. Without one, what a wrapper
            for distributed training adds to their names is taken off.
        unused: What names begin with in the module whose weights do not matter.
    """
    given, wanted = _shapes(_read(checkpoint, prefix)), _shapes(module.state_dict())
    unfit = [
        name
        for name, shape in wanted.items()
        if given.get(name) != shape and not (unused and name.startswith(unused))
    ]
    if unfit:
        raise ValueError(
            f"{checkpoint} does not fit {type(module).__name__}: it lacks {len(unfit)} "
            f"of {len(wanted)} weights, or has them in other shapes: {some(unfit)}. "
            "Give the checkpoint of the same network (stem, width, depth)"
        )


def _pretrained(module: nn.Module) -> Iterator[dict]:
    """The parts of a module's ``init_cfg`` that load a checkpoint."""
    init_cfgs = getattr(module, "init_cfg", None) or []
    for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
        if init_cfg["type"] in ("Pretrained", PretrainedInit):
            yield init_cfg


def _read(checkpoint: str, prefix: str | None) -> dict[str, Tensor]:
    """The weights that MMEngine takes from a checkpoint, by names in the module."""
    # MMEngine's reading of it, not ours, which finds weights in more files.
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu")
    weights = content.get("state_dict", content)
    if prefix is None:
        return {name.removeprefix("module."): w for name, w in weights.items()}
    prefix = prefix.removesuffix(".") + "."
    return {
        name.removeprefix(prefix): w
        for name, w in weights.items()
        if name.startswith(prefix)
    }


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of weights, without the counters that MMEngine does not miss either.

    What is no tensor, in a checkpoint whose weights MMEngine does not find, is none.
    """
    return {
        name: tuple(weight.shape)
        for name, weight in weights.items()
        if isinstance(weight, Tensor) and not name.endswith("num_batches_tracked")
    }
