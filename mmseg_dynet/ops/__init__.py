"""The dynamic convolution: functions, coefficient prediction, layer. Torch only."""

from .coefficients import CoefficientPredictor
from .dy_conv2d import DyConv2d
from .functional import (
    dynamic_conv2d,
    dynamic_conv2d_feature_fusion,
    dynamic_conv2d_reference,
    fuse_kernels,
)

__all__ = [
    "CoefficientPredictor",
    "DyConv2d",
    "dynamic_conv2d",
    "dynamic_conv2d_feature_fusion",
    "dynamic_conv2d_reference",
    "fuse_kernels",
]
