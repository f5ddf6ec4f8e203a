"""Dynamic convolution: functions, coefficient predictor and layer.

Depends on torch only.
"""

from .dy_conv2d import DyConv2d, shared_predictor
from .functional import (
    dynamic_conv2d,
    dynamic_conv2d_feature_fusion,
    dynamic_conv2d_reference,
    fuse_kernels,
)
from .per_image import IMPLEMENTATIONS, conv2d_per_image, force_implementation
from .predictor import CoefficientOptions, CoefficientPredictor

__all__ = [
    "IMPLEMENTATIONS",
    "CoefficientOptions",
    "CoefficientPredictor",
    "DyConv2d",
    "conv2d_per_image",
    "dynamic_conv2d",
    "dynamic_conv2d_feature_fusion",
    "dynamic_conv2d_reference",
    "force_implementation",
    "fuse_kernels",
    "shared_predictor",
]
