"""Fold batch norms into the convolutions before them, static or dynamic.

In eval mode a batch norm scales each channel by ``s = gamma / sqrt(var + eps)`` and
shifts it. The dynamic kernel is linear in the bank, so scaling the bank scales every
kernel that is ever fused from it:

    BN(w~ * x + bias) = (s w~) * x + s (bias - mean) + beta
    s[o] w~[o] = sum_k coeff[o, k] * (s[o] weight[o, k])

The folded network computes the same function without a pass over each feature map.
"""

from collections import Counter

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import Conv2d, Conv2dAdaptivePadding
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.models.dynamize.share import DynamizedConv2d
from mmseg_dynet.ops import DyConv2d
from mmseg_dynet.ops.modules import copy_of

# Exact types. A subclass may change its weight in forward, as those that standardise
# it do (ConvWS2d), and a parametrization makes a subclass.
_CONVOLUTIONS = (nn.Conv2d, Conv2d, Conv2dAdaptivePadding, DyConv2d, DynamizedConv2d)
_NORM_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


def fold_bn(model: nn.Module) -> nn.Module:
    """Return a copy of any network, static or dynamic, with its batch norms folded.

    A batch norm is folded if the child before it, in the order of registration, is a
    plain convolution or a :class:`DyConv2d` with as many output channels. The blocks of
    MMSegmentation and of this package are built like that. In a network that registers
    its layers in another order than it runs them, calls a function between convolution
    and norm, or uses the convolution's output elsewhere too, folding changes the
    outputs, so compare them. (The ``order`` of mmcv's ConvModule is known.)

    Left alone are convolutions of other types, with a parametrization or hooks, shared,
    or before several batch norms, and batch norms without running statistics.

    The copy is in eval mode. Parameters and MACs of convolutions do not change, except
    for a bias of O values per layer.
    """
    model = copy_of(model)
    uses = Counter(
        item
        for module in model.modules()
        for item in (*module._modules.values(), *module._parameters.values())
    )
    for parent in list(model.modules()):
        if isinstance(parent, ConvModule):
            # Registers its norm after its convolution in whatever order they run.
            parent.efficient_conv_bn_eval_forward = None  # would ask for the norm
            order = parent.order
            if order.index("norm") != order.index("conv") + 1:
                continue
        # Not named_children(), which gives a shared activation in one place only.
        children = [(n, m) for n, m in parent._modules.items() if m is not None]
        children.append(("", None))
        following = zip(children, children[1:], children[2:], strict=False)
        for (_, conv), (name, norm), (_, after) in following:
            if (
                _can_fold(conv, norm)
                and not isinstance(after, _BatchNorm)  # which may norm the conv, too
                and uses[conv] == 1
                and uses[conv.weight] == 1
            ):
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())
    model.eval()  # new modules as well; not chained: some hosts' eval() returns None
    return model


def _can_fold(conv: nn.Module | None, norm: nn.Module) -> bool:
    return (
        type(conv) in _CONVOLUTIONS
        and type(norm).forward in _NORM_FORWARDS
        and norm.running_mean is not None
        and conv.out_channels == norm.num_features
        and not any(_is_hooked(module) for module in (conv, norm))
    )


def _is_hooked(module: nn.Module) -> bool:
    """Whether a call runs more than ``forward``; spectral norm is a pre-hook."""
    hooks = module._forward_pre_hooks or module._forward_hooks
    return bool(hooks) or "forward" in vars(module)


@torch.no_grad()
def _fold(conv: nn.Conv2d | DyConv2d, norm: _BatchNorm) -> None:
    """Scale the convolution's kernels or bank, and set its bias, in place."""
    # In double: the folded values are rounded once.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight
    if norm.bias is not None:
        shift = shift + norm.bias
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    weight = conv.weight
    per_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
    weight.copy_(weight * per_channel)
    conv.bias = nn.Parameter(shift.to(weight.dtype), weight.requires_grad)
