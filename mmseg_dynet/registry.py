"""The one file that adds the package's modules to MMEngine's registries.

They go to MMEngine's root registries rather than MMSegmentation's, so that configs of
mmseg, mmdet and mmpretrain find them, with and without a default scope.
"""

from mmengine.fileio import register_backend
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS

from mmseg_dynet import engine, models
from mmseg_dynet.datasets import CamVidDataset
from mmseg_dynet.engine.checkpoint_hook import BACKEND, AtomicBackend
from mmseg_dynet.models.dynamize import build_dynamized
from mmseg_dynet.ops import DyConv2d

MODELS.register_module(module=DyConv2d)
MODELS.register_module(module=models.DyMobileNetV2)
MODELS.register_module(module=models.DyMobileNetV3)
MODELS.register_module(module=models.DyResNet)
MODELS.register_module(module=models.DyShuffleNetV2)
MODELS.register_module(module=models.ShuffleNetV2)
MODELS.register_module("Dynamized", module=build_dynamized)

HOOKS.register_module(module=engine.ChannelsLastHook)
HOOKS.register_module(module=engine.CheckSetupHook)
HOOKS.register_module(module=engine.CoefficientHook)
HOOKS.register_module(module=engine.FiniteLossHook)
HOOKS.register_module(module=engine.SafeCheckpointHook)
HOOKS.register_module(module=engine.TemperatureHook)

DATASETS.register_module(module=CamVidDataset)
METRICS.register_module(module=engine.ClassIoUMetric)
OPTIM_WRAPPERS.register_module(module=engine.BFloat16OptimWrapper)
register_backend(BACKEND, AtomicBackend)
