"""Time networks side by side."""

from collections.abc import Callable, Mapping
from time import perf_counter

import torch
from rich.progress import track


def synchronize() -> None:
    """Wait for the work of a GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_alternating(
    calls: Mapping[str, Callable[[], object]], repeats: int = 10, warmup: int = 2
) -> dict[str, list[float]]:
    """Time several calls in turns, A B A B ..., so that a drift hits all alike.

    Args:
        calls: What to time, by name.
        repeats: Timed rounds.
        warmup: Rounds before, not timed: caches fill, kernels get chosen.

    Returns:
        Seconds of each timed call by name, in the order they ran. GPU work is waited
        for.

    Raises:
        ValueError: ``repeats`` is less than 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in track(range(warmup + repeats), "timing", transient=True):
        for name, call in calls.items():
            start = perf_counter()
            call()
            synchronize()
            if round_ >= warmup:
                seconds[name].append(perf_counter() - start)
    return seconds
