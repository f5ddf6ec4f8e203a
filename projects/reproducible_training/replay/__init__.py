"""Resumed training that is bit-equal to training that was not interrupted."""

from .hook import ReplayHook
from .runner import ReplayRunner
from .sampling import ReplayableSampler, SeededDataset, SeededIndex

__all__ = [
    "ReplayHook",
    "ReplayRunner",
    "ReplayableSampler",
    "SeededDataset",
    "SeededIndex",
]
