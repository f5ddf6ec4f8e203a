"""What plugs into MMEngine's Runner."""

from .checkpoint_hook import SafeCheckpointHook
from .hooks import ChannelsLastHook, CoefficientHook, FiniteLossHook, TemperatureHook
from .metric import ClassIoUMetric
from .optim_wrapper import BFloat16OptimWrapper
from .setup_check import CheckSetupHook

__all__ = [
    "BFloat16OptimWrapper",
    "ChannelsLastHook",
    "CheckSetupHook",
    "ClassIoUMetric",
    "CoefficientHook",
    "FiniteLossHook",
    "SafeCheckpointHook",
    "TemperatureHook",
]
