"""One call from a trained network to one that is fast on a CPU."""

import torch
from torch import Tensor, nn

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d
from mmseg_dynet.ops.modules import replace_modules
from mmseg_dynet.ops.predictor import Affine

from .fold_bn import fold_bn
from .int8 import Int8DyConv2d, Int8Linear

# torch.bmm multiplies matrices of fewer products by a scalar loop.
_BMM_LOOPS_BELOW = 400


def optimize_for_inference(model: nn.Module, int8: bool = False) -> nn.Module:
    """Return a copy of a network with the same outputs, faster on single images.

    Batch norms are folded (:func:`fold_bn` says for which networks this keeps outputs),
    convolutions and banks stored in channels_last (give the network inputs of that
    format), and the matrices of predictors by columns, which a product with a single
    vector reads in order. Small banks are fused as a sum of products. A static network
    is treated alike, so the two compare.

    Args:
        model: Any network. It is left as it is.
        int8: Whether to store banks and the matrices of predictors with eight bits per
            weight (:mod:`mmseg_dynet.deploy.int8`): a quarter of the memory, but check
            the accuracy. Otherwise outputs are equal up to rounding.

    Raises:
        ValueError: The network has banks of eight bits already.
    """
    if any(isinstance(m, Int8DyConv2d) for m in model.modules()):
        raise ValueError("the network is int8 already: give the float network")
    model = fold_bn(model).to(memory_format=torch.channels_last)
    predictors = [m for m in model.modules() if isinstance(m, CoefficientPredictor)]
    if int8:
        for predictor in predictors:
            replace_modules(predictor, Affine, Int8Linear)
        model = replace_modules(model, DyConv2d, Int8DyConv2d)
    else:
        for predictor in predictors:
            for linear in predictor.children():
                linear.weight.data = linear.weight.data.t().contiguous().t()
        for layer in model.modules():
            if isinstance(layer, DyConv2d):
                products = layer.weight[0].numel()  # of one image and output channel
                if products < _BMM_LOOPS_BELOW:
                    layer.fusion = _fuse_by_sum
    model.eval()  # new modules as well
    return model


def _fuse_by_sum(weight: Tensor, coeff: Tensor) -> Tensor:
    """Fuse a bank in channels_last as a sum of products; see :func:`fuse_kernels`."""
    bank = weight.permute(0, 1, 3, 4, 2)
    kernels = (coeff[..., None] * bank.flatten(2)).sum(2)
    return kernels.unflatten(2, bank.shape[2:]).permute(0, 1, 4, 2, 3)
