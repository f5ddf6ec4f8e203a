"""Hooks for MMEngine's runner."""

from .channels_last import ChannelsLastHook
from .checkpoint_hook import SafeCheckpointHook
from .coefficient_hook import CoefficientHook
from .finite_loss import FiniteLossHook
from .kernel_reuse_hook import KernelReuseHook
from .pretrained import CheckPretrainedHook

__all__ = [
    "ChannelsLastHook",
    "CheckPretrainedHook",
    "CoefficientHook",
    "FiniteLossHook",
    "KernelReuseHook",
    "SafeCheckpointHook",
]
