"""Backbones: Dy-ResNet on the seam of the host's ResNet, the others on one base."""

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
]
