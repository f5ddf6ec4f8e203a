"""The one file that adds the package's modules to MMEngine's registries.

They go to MMEngine's root registries rather than MMSegmentation's, so that configs of
mmseg, mmdet and mmpretrain find them, with and without a default scope.
"""

from mmengine.fileio import register_backend
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS

from mmseg_dynet.datasets import CamVidDataset
from mmseg_dynet.engine import (
    BFloat16OptimWrapper,
    ChannelsLastHook,
    CheckSetupHook,
    ClassIoUMetric,
    CoefficientHook,
    FiniteLossHook,
    KernelReuseHook,
    SafeCheckpointHook,
    TemperatureHook,
)
from mmseg_dynet.engine.checkpoint_hook import BACKEND, AtomicBackend
from mmseg_dynet.models import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
)
from mmseg_dynet.models.dynamize import build_dynamized
from mmseg_dynet.ops import DyConv2d

for module in (
    DyConv2d,
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
):
    MODELS.register_module(module=module)
MODELS.register_module("Dynamized", module=build_dynamized)

for module in (
    ChannelsLastHook,
    CheckSetupHook,
    CoefficientHook,
    FiniteLossHook,
    KernelReuseHook,
    SafeCheckpointHook,
    TemperatureHook,
):
    HOOKS.register_module(module=module)

DATASETS.register_module(module=CamVidDataset)
METRICS.register_module(module=ClassIoUMetric)
OPTIM_WRAPPERS.register_module(module=BFloat16OptimWrapper)
register_backend(BACKEND, AtomicBackend)
