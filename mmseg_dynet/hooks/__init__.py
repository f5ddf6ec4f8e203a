"""Hooks for MMEngine's runner."""

from .channels_last import ChannelsLastHook
from .coefficients import CoefficientHook
from .kernel_reuse import KernelReuseHook
from .pretrained import CheckPretrainedHook
from .replay import ReplayHook

__all__ = [
    "ChannelsLastHook",
    "CheckPretrainedHook",
    "CoefficientHook",
    "KernelReuseHook",
    "ReplayHook",
]
