"""The one file that binds the package's names to MMEngine's registries.

Models and hooks go to MMEngine's root registry, not to MMSegmentation's child of it, so
that mmseg, mmdet and mmpretrain configs find them alike, with and without a default
scope.
"""

from mmengine.registry import HOOKS, MODELS

from mmseg_dynet import datasets  # noqa: F401  registers in MMSegmentation's DATASETS
from mmseg_dynet.hooks import CheckPretrainedHook, KernelReuseHook
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

for module in (CheckPretrainedHook, KernelReuseHook):
    HOOKS.register_module(module=module)
