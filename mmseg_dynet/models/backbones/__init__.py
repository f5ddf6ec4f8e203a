"""Backbones: Dy-ResNet, based on the host's ResNet, and those on our own base."""

from .base import StagedBackbone
from .dy_mobilenet_v2 import DyMobileNetV2
from .dy_mobilenet_v3 import DyMobileNetV3
from .dy_resnet import DyResNet
from .dy_shufflenet_v2 import DyShuffleNetV2
from .shufflenet_v2 import ShuffleNetV2

__all__ = [
    "DyMobileNetV2",
    "DyMobileNetV3",
    "DyResNet",
    "DyShuffleNetV2",
    "ShuffleNetV2",
    "StagedBackbone",
]
