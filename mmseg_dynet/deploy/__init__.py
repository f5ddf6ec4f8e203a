"""From a trained network to one that is fast to run."""

from .fold_bn import fold_bn
from .int8_bank import Int8DyConv2d
from .kernel_reuse import KernelReuse
from .optimize import optimize_for_inference

__all__ = ["Int8DyConv2d", "KernelReuse", "fold_bn", "optimize_for_inference"]
