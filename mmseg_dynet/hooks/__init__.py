"""Hooks for MMEngine's runner."""

from .channels_last import ChannelsLastHook
from .checkpoint import SafeCheckpointHook
from .coefficients import CoefficientHook
from .finite_loss import FiniteLossHook
from .kernel_reuse import KernelReuseHook
from .pretrained import CheckPretrainedHook
from .replay import ReplayHook

__all__ = [
    "ChannelsLastHook",
    "CheckPretrainedHook",
    "CoefficientHook",
    "FiniteLossHook",
    "KernelReuseHook",
    "ReplayHook",
    "SafeCheckpointHook",
]
