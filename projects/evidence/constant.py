"""A network with the kernels of a dynamic one, but no prediction."""

from types import MethodType

import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d, fuse_kernels


@HOOKS.register_module()
class ConstantCoefficientsHook(Hook):
    """Let predictors learn their last bias alone: the same coefficients for all images.

    Each layer then fuses one kernel per batch. After training the network is static.
    """

    def before_train(self, runner: Runner) -> None:
        """Set the matrix before the coefficients to zero, for good."""
        for module in runner.model.modules():
            if isinstance(module, CoefficientPredictor):
                module.logits.weight.data.zero_()
                module.logits.weight.requires_grad_(False)
            elif isinstance(module, DyConv2d):
                module.fusion = fuse_first
                module.convolve = MethodType(convolve_all, module)


def fuse_first(weight: Tensor, coeff: Tensor) -> Tensor:
    """Fuse the bank with the coefficients of the first image to (1, O, C/G, kH, kW)."""
    return fuse_kernels(weight, coeff[:1])


def convolve_all(layer: DyConv2d, x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve x (B, C, H, W) with one kernel (1, O, C/G, kH, kW) for all images."""
    geometry = layer.stride, layer.padding, layer.dilation, layer.groups
    return F.conv2d(x, kernels.squeeze(0), layer.bias, *geometry)
