"""Backbones: each a file, each on the seam of its static counterpart in the host."""

from .dy_resnet import DyResNet

__all__ = ["DyResNet"]
