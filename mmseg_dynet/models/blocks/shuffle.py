"""Units of ShuffleNetV2, dynamic or static."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .branch import build_branch, conv_args

NUM_BRANCHES = 2
# Where torch has the operator, which keeps channels_last on CPUs; its gradient came
# with torch 2.6.
OPERATOR_DEVICES = ("cpu", "cuda", "meta") if torch.__version__ >= (2, 6) else ()


class ShuffleUnit(nn.Module):
    """Stride-1 unit: split the channels, work on the right ones, join and shuffle.

    Args:
        channels: C, channels of the input and of the output.
        right_channels: Channels of the right branch; the left ones stay as they are.
        dilation: Dilation of the spatial convolution.
        groups: Of the spatial convolution; ``right_channels`` makes it depthwise.
        num_kernels: Those of the right branch, as in :func:`build_branch`.
        **shared: ``norm_cfg``, ``act_cfg`` and ``coefficients`` of the convolutions.
    """

    def __init__(
        self,
        channels: int,
        right_channels: int,
        *,
        dilation: int,
        groups: int,
        num_kernels: int | None,
        **shared,
    ) -> None:
        super().__init__()
        self.split_channels = (channels - right_channels, right_channels)
        right = [
            conv_args(right_channels, right_channels, 1),
            _spatial(right_channels, 1, dilation, groups),
            conv_args(right_channels, right_channels, 1),
        ]
        self.right = build_branch(right, num_kernels, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        left, right = x.split(self.split_channels, dim=1)
        return _join(left, self.right(right))


class ProjectionUnit(nn.Module):
    """First unit of a stage: both branches work on the whole input, at any stride.

    Args:
        in_channels: C, channels of the input and of the left branch.
        out_channels: O, channels of the output. The right branch runs at O / 2
            channels and contributes the other O - C.
        stride: Stride of the spatial convolutions.
        dilation: Dilation of the spatial convolutions.
        num_kernels: Those of the right branch; the left branch is static.
        **shared: As in :class:`ShuffleUnit`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilation: int,
        num_kernels: int | None,
        **shared,
    ) -> None:
        super().__init__()
        mid_channels = out_channels // 2
        left = [
            _spatial(in_channels, stride, dilation, in_channels),
            conv_args(in_channels, in_channels, 1),
        ]
        right = [
            conv_args(in_channels, mid_channels, 1),
            _spatial(mid_channels, stride, dilation, mid_channels),
            conv_args(mid_channels, out_channels - in_channels, 1),
        ]
        self.left = build_branch(left, num_kernels=None, **shared)
        self.right = build_branch(right, num_kernels, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H', W')."""
        return _join(self.left(x), self.right(x))


def _spatial(channels: int, stride: int, dilation: int, groups: int) -> dict:
    """Arguments of a grouped 3x3 convolution, which has no activation."""
    options = dict(stride=stride, padding=dilation, dilation=dilation, groups=groups)
    return conv_args(channels, channels, 3, act_cfg=None, **options)


def _join(left: Tensor, right: Tensor) -> Tensor:
    """Concatenate the branches' (B, .., H, W) and shuffle: interleave two halves."""
    x = torch.cat((left, right), dim=1)
    if x.device.type in OPERATOR_DEVICES:
        return F.channel_shuffle(x, NUM_BRANCHES)
    return x.unflatten(1, (NUM_BRANCHES, -1)).transpose(1, 2).flatten(1, 2)
