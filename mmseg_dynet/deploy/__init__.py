"""From a trained network to one that is fast to run."""

from .fold_bn import fold_bn
from .int8 import Int8DyConv2d, Int8Linear
from .kernel_reuse import KernelReuse
from .optimize import optimize_for_inference

__all__ = [
    "Int8DyConv2d",
    "Int8Linear",
    "KernelReuse",
    "fold_bn",
    "optimize_for_inference",
]
