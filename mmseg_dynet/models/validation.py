"""Checks of the options that backbones share, with errors that name the remedy."""

from collections.abc import Collection, Sequence
from typing import Any


def check_choice(name: str, value: Any, allowed: Collection) -> None:
    """Raise a ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        choices = ", ".join(map(str, allowed))
        raise ValueError(f"{name}={value!r} is not one of {choices}")


def check_stages(
    num_stages: int, out_indices: Sequence[int], frozen_stages: int
) -> None:
    """Raise a ValueError unless the stages to return and to freeze exist.

    ``frozen_stages`` is -1 for none, or i for the stem and the first i stages.
    """
    if len(out_indices) == 0:
        raise ValueError("out_indices is empty: name at least one stage to return")
    for index in out_indices:
        check_choice("an index of out_indices", index, range(num_stages))
    check_choice("frozen_stages", frozen_stages, range(-1, num_stages + 1))


def check_per_stage(num_stages: int, **options: Sequence[int]) -> None:
    """Raise a ValueError unless each option has a positive number for every stage."""
    for name, values in options.items():
        if len(values) != num_stages or min(values) < 1:
            raise ValueError(
                f"{name}={values} must be {num_stages} positive numbers, one per stage"
            )


def pretrained_init_cfg(checkpoint: str, init_cfg: dict | list[dict] | None) -> dict:
    """The ``init_cfg`` that ``pretrained=checkpoint`` stands for, if none is given."""
    if init_cfg is not None:
        raise ValueError(
            f"pretrained={checkpoint!r} and {init_cfg=} both name initial weights: set "
            "one of them to None (pretrained may be that of the model)"
        )
    return dict(type="Pretrained", checkpoint=checkpoint)
