"""The networks of the paper, as MMSegmentation backbones."""

from .backbones import DyResNet

__all__ = ["DyResNet"]
