"""Resumed training that is bit-equal to training that was not interrupted."""

from .hook import ReplayHook
from .runner import ReplayRunner
from .sampling import Draw, ReplayableSampler, SeededDataset

__all__ = ["Draw", "ReplayHook", "ReplayRunner", "ReplayableSampler", "SeededDataset"]
