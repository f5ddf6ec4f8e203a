"""The networks of the paper, as MMSegmentation backbones."""

from .backbones import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
)

__all__ = [
    "DyMobileNetV2",
    "DyMobileNetV3",
    "DyResNet",
    "DyShuffleNetV2",
    "ShuffleNetV2",
]
