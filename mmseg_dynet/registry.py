"""The one file that binds the package's names to MMEngine's registries.

All but data sets go to MMEngine's root registry, not to MMSegmentation's child of it,
so that mmseg, mmdet and mmpretrain configs find them alike, with and without a default
scope.
"""

from mmengine.fileio import register_backend
from mmengine.registry import (
    HOOKS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    TRANSFORMS,
)

from mmseg_dynet import datasets  # noqa: F401  registers in MMSegmentation's DATASETS
from mmseg_dynet.datasets.checks import CheckFiles, CheckLabels
from mmseg_dynet.engine import (
    ChannelsLastHook,
    CheckPretrainedHook,
    CoefficientHook,
    FiniteLossHook,
    KernelReuseHook,
    SafeCheckpointHook,
)
from mmseg_dynet.engine.checkpoint_hook import BACKEND, WholeFileBackend
from mmseg_dynet.engine.metric import ClassIoUMetric
from mmseg_dynet.engine.optim_wrapper import BFloat16OptimWrapper
from mmseg_dynet.models import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
)
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

for module in (
    ChannelsLastHook,
    CheckPretrainedHook,
    CoefficientHook,
    FiniteLossHook,
    KernelReuseHook,
    SafeCheckpointHook,
):
    HOOKS.register_module(module=module)

for module in (CheckFiles, CheckLabels):
    TRANSFORMS.register_module(module=module)

METRICS.register_module(module=ClassIoUMetric)
OPTIM_WRAPPERS.register_module(module=BFloat16OptimWrapper)
register_backend(BACKEND, WholeFileBackend)
