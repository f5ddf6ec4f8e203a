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


def check_positive(**options: float) -> None:
    """Raise a ValueError unless each option is greater than 0."""
    for name, value in options.items():
        if value <= 0:
            raise ValueError(f"{name}={value} must be greater than 0")


def check_per_stage(num_stages: int, **options: Sequence[int]) -> None:
    """Raise a ValueError unless each option has a positive number for every stage."""
    for name, values in options.items():
        if len(values) != num_stages or min(values) < 1:
            raise ValueError(
                f"{name}={values} must be {num_stages} positive numbers, one per stage"
            )
