"""Fold batch norms into the convolutions before them, static or dynamic.

In eval mode a batch norm scales each channel by ``s = gamma / sqrt(var + eps)`` and
shifts it. The dynamic kernel is linear in the bank, so scaling the bank scales every
kernel that is ever fused from it:

    BN(w~ * x + b) = (s w~) * x + s (b - mean) + beta
    s w~[t] = sum_i eta[t, i] (s w[t, i])

The folded network computes the same function without a pass over each feature map.
"""

from copy import deepcopy

import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.ops import DyConv2d


def fold_bn(model: nn.Module) -> nn.Module:
    """Return a copy of a network in eval mode, its batch norms folded.

    A batch norm is folded if the child before it, in the order of registration, is a
    :class:`nn.Conv2d` or a :class:`DyConv2d` of as many output channels. That is how
    the blocks of MMSegmentation and of this package are built; in a network that
    registers its layers in another order than it runs them, folding would change the
    function, so compare outputs. (Of mmcv's ConvModule the ``order`` is known.) Other
    batch norms stay. Parameters and MACs of convolutions do not change, but for a bias
    of O values a layer.

    Args:
        model: Any network, static or dynamic. It is left as it is.

    Raises:
        ValueError: A batch norm after a convolution keeps no running statistics.
    """
    model = deepcopy(model)
    for parent in list(model.modules()):
        if isinstance(parent, ConvModule) and not _normalises_its_convolution(parent):
            continue
        before = None
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and _feeds(before, child):
                _fold(before, child)
                setattr(parent, name, nn.Identity())
            before = child
    model.eval()  # what is new as well; the host's networks return None
    return model


def _normalises_its_convolution(module: ConvModule) -> bool:
    """Whether the norm comes next: it is registered there, whatever the order."""
    return module.order.index("norm") == module.order.index("conv") + 1


def _feeds(conv: nn.Module | None, norm: _BatchNorm) -> bool:
    return (
        isinstance(conv, nn.Conv2d | DyConv2d)
        and conv.out_channels == norm.num_features
    )


@torch.no_grad()
def _fold(conv: nn.Conv2d | DyConv2d, norm: _BatchNorm) -> None:
    """Scale the convolution's kernels or bank, and set its bias, in place."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            "a batch norm with track_running_stats=False normalises by the batch that "
            "it sees, which no kernel can: it cannot be folded"
        )
    # In double: the folded values are rounded once.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    weight = conv.weight
    per_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
    weight.copy_(weight * per_channel)
    conv.bias = nn.Parameter(shift.to(weight.dtype), weight.requires_grad)
