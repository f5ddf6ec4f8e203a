"""The block of the MobileNets: pointwise, spatial, pointwise, around a shortcut."""

import torch.nn.functional as F
from mmseg.models.utils import SELayer
from torch import Tensor, nn

from .branch import build_branch, conv_args

# MobileNetV3's, which is the host's default; but mmcv's own hard sigmoid warns when
# built.
_SQUEEZE_ACTS = (dict(type="ReLU"), dict(type=nn.Hardsigmoid))


class SamePadding(nn.Module):
    """TensorFlow's padding, with which a strided convolution gives ceil(size / stride).

    Equal to mmcv's AdaptivePadding, but in integer arithmetic: its division and
    rounding do not survive an export with variable sizes.

    Args:
        kernel_size: Side of the kernel that follows.
        stride: Its stride, not above ``dilation * (kernel_size - 1) + 1``.
        dilation: Its dilation.
    """

    def __init__(self, kernel_size: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.stride = stride
        self.overlap = dilation * (kernel_size - 1) + 1 - stride

    def forward(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W), the odd pixel at the bottom and right."""
        height, width = (self.overlap + -size % self.stride for size in x.shape[2:])
        left, top = width // 2, height // 2
        return F.pad(x, (left, width - left, top, height - top))


class InvertedResidual(nn.Module):
    """Inverted residual block of MobileNetV2 and V3, dynamic or static.

    In a dynamic block, one linear predictor serves all convolutions from the block's
    input; a squeeze-excite layer stays static.

    Args:
        in_channels: C, channels of the input.
        mid_channels: Channels of the spatial convolution.
        out_channels: O, channels of the output.
        num_kernels: As in :func:`build_branch`.
        kernel_size: Side of the spatial convolution's kernel.
        stride: Stride of the spatial convolution. At 1, if C = O, there is a shortcut.
        dilation: Dilation of the spatial convolution.
        groups: Groups of the spatial convolution; ``mid_channels`` makes it depthwise.
        expand: Whether a pointwise convolution from C to ``mid_channels`` comes first.
        squeeze: Whether a squeeze-excite layer follows the spatial convolution.
        pad_layer: A layer in front of the spatial convolution, which pads equally on
            all sides unless the layer is a :class:`SamePadding`.
        **shared: ``norm_cfg``, ``act_cfg`` and ``coefficients`` of the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        num_kernels: int | None,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int,
        expand: bool,
        squeeze: bool = False,
        pad_layer: nn.Module | None = None,
        **shared,
    ) -> None:
        super().__init__()
        layers = []
        if expand:
            layers.append(conv_args(in_channels, mid_channels, 1))
        if pad_layer is not None:
            layers.append(pad_layer)
        is_padded = isinstance(pad_layer, SamePadding)
        padding = 0 if is_padded else dilation * (kernel_size // 2)
        spatial = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        layers.append(conv_args(mid_channels, mid_channels, kernel_size, **spatial))
        if squeeze:
            layers.append(SELayer(mid_channels, ratio=4, act_cfg=_SQUEEZE_ACTS))
        layers.append(conv_args(mid_channels, out_channels, 1, act_cfg=None))
        self.branch = build_branch(layers, num_kernels, **shared)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H', W')."""
        out = self.branch(x)
        return out.add_(x) if self.shortcut else out
