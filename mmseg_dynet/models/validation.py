"""Checks of the options that every backbone shares, with errors that name the remedy."""

from collections.abc import Collection, Sequence
from typing import Any


def check_choice(name: str, value: Any, allowed: Collection) -> None:
    """Raise a ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(str, allowed))}")


def check_stages(
    num_stages: int, out_indices: Sequence[int], frozen_stages: int
) -> None:
    """Raise a ValueError unless the stages to return and to freeze exist.

    Args:
        num_stages: Stages of the backbone, the stem not counted.
        out_indices: Stages to return, each in 0 .. num_stages - 1.
        frozen_stages: -1 for none, 0 for the stem, i for the stem and stages 1 .. i.
    """
    for index in out_indices:
        check_choice("an index of out_indices", index, range(num_stages))
    check_choice("frozen_stages", frozen_stages, range(-1, num_stages + 1))
