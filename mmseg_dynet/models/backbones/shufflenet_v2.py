"""ShuffleNetV2, which MMSegmentation lacks: the static twin of Dy-shuffle.

Its strided unit is that of its authors, whose projection keeps its input's channels. It
reproduces the published 146/299/591 M MACs, which the variant with two equal halves,
torchvision's, does not (145/296/583 M).
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from packaging.version import Version
from torch import Tensor, nn

from mmseg_dynet.models.blocks.branch import build_branch
from mmseg_dynet.models.validation import check_choice, check_per_stage

from .base import BATCH_NORM, InitCfg, StagedBackbone

RELU = dict(type="ReLU")
NUM_BRANCHES = 2
# Of torch's own operator, which keeps channels_last: torch 2.1 does not have it.
DERIVATIVE_OF_SHUFFLE = Version(torch.__version__) >= Version("2.6")


class ShuffleUnit(nn.Module):
    """Stride-1 unit: split the channels, work on the right ones, join and shuffle.

    Args:
        channels: C, channels of the input and of the output.
        right_channels: Channels of the right branch; the left ones pass by.
        dilation: Dilation of the spatial convolution.
        groups: Groups of the spatial convolution; ``right_channels`` makes it a
            depthwise one.
        num_kernels: K, the fixed kernels an output channel of the right branch owns
            (the paper's g_t); None for static convolutions.
        **shared: ``norm_cfg`` and ``act_cfg`` of the convolutions.
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
        self.right = build_branch(
            [
                _pointwise(right_channels, right_channels),
                _spatial(right_channels, 1, dilation, groups),
                _pointwise(right_channels, right_channels),
            ],
            num_kernels,
            **shared,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        left, right = x.split(self.split_channels, dim=1)
        return _join(left, self.right(right))


class ProjectionUnit(nn.Module):
    """First unit of a stage: both branches work on the whole input, at any stride.

    Args:
        in_channels: C, channels of the input and of the left branch.
        out_channels: O, channels of the output. The right branch runs at O / 2
            channels, and gives the O - C that the left one leaves.
        stride: Stride of the spatial convolutions.
        dilation: Dilation of the spatial convolutions.
        num_kernels: K, the fixed kernels an output channel of the right branch owns
            (the paper's g_t); None for static convolutions. The left branch is static.
        **shared: ``norm_cfg`` and ``act_cfg`` of the convolutions.
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
        self.left = build_branch(
            [
                _spatial(in_channels, stride, dilation, in_channels),
                _pointwise(in_channels, in_channels),
            ],
            num_kernels=None,
            **shared,
        )
        self.right = build_branch(
            [
                _pointwise(in_channels, mid_channels),
                _spatial(mid_channels, stride, dilation, mid_channels),
                _pointwise(mid_channels, out_channels - in_channels),
            ],
            num_kernels,
            **shared,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H', W')."""
        return _join(self.left(x), self.right(x))


class ShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 (Ma et al., ECCV 2018, arXiv 1807.11164).

    A stem of stride 4 with 24 channels, then stages 0 to 2 of 4, 8 and 4 units at
    strides 8, 16 and 32. Stage 3 is the 1x1 convolution in front of a classifier.

    ============  =============================
    widen_factor  channels of stages 0 .. 3
    ============  =============================
    0.5           48/96/192/1024
    1.0           116/232/464/1024
    1.5           176/352/704/1024
    2.0           244/488/976/2048
    ============  =============================

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        strides: Stride of the first unit of each stage 0 .. 2.
        dilations: Dilation of each stage 0 .. 2 but for its first unit, which has that
            of the stage before: what it reads is still spaced so. Then the network
            computes what the strided one does, on a denser grid. Output stride 8
            takes strides (2, 1, 1) and dilations (1, 2, 4), 16 takes (2, 2, 1) and
            (1, 1, 2).
        out_indices: Stages whose outputs are returned, each in 0 .. 3.
        frozen_stages: -1 freezes nothing; i freezes the stem and the first i stages.
        norm_eval: Whether all batch norms stay in eval mode.
        with_cp: Whether to recompute each unit in the backward pass.
        norm_cfg: Norm of every convolution.
        act_cfg: Activation of every convolution that has one.
        init_cfg: As in :class:`StagedBackbone`.

    Raises:
        ValueError: An option is out of its range.

    Example:
        >>> import torch
        >>> backbone = ShuffleNetV2()
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 116, 8, 8), (1, 232, 4, 4), (1, 464, 2, 2)]
    """

    # Channels of stages 0 .. 3 for each widen_factor (their table 5).
    arch_settings: ClassVar[dict[float, tuple[int, ...]]] = {
        0.5: (48, 96, 192, 1024),
        1.0: (116, 232, 464, 1024),
        1.5: (176, 352, 704, 1024),
        2.0: (244, 488, 976, 2048),
    }
    num_units = (4, 8, 4)
    # Of so many equal parts of the channels, the right branch has one.
    split_parts = 2
    num_kernels: int | None = None

    def __init__(
        self,
        widen_factor: float = 1.0,
        strides: Sequence[int] = (2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: InitCfg = None,
    ) -> None:
        check_choice("widen_factor", widen_factor, self.arch_settings)
        check_per_stage(len(self.num_units), strides=strides, dilations=dilations)
        shared = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)

        in_channels, dilation_before = 24, 1
        stem = Sequential(
            ConvModule(3, in_channels, 3, stride=2, padding=1, **shared),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        *widths, last_channels = self.arch_settings[widen_factor]
        stages = []
        for out_channels, num_units, stride, dilation in zip(
            widths, self.num_units, strides, dilations, strict=True
        ):
            projection = ProjectionUnit(
                in_channels,
                out_channels,
                stride=stride,
                dilation=dilation_before,
                num_kernels=self.num_kernels,
                **shared,
            )
            right_channels = out_channels // self.split_parts
            # With half of the channels and twice as many a group, the spatial
            # convolution costs the same. 29 and 61 channels are prime: no group of 2.
            group_channels = math.gcd(right_channels, self.split_parts // 2)
            units = [
                ShuffleUnit(
                    out_channels,
                    right_channels,
                    dilation=dilation,
                    groups=right_channels // group_channels,
                    num_kernels=self.num_kernels,
                    **shared,
                )
                for _ in range(num_units - 1)
            ]
            stages.append(Sequential(projection, *units))
            in_channels, dilation_before = out_channels, dilation
        stages.append(Sequential(ConvModule(in_channels, last_channels, 1, **shared)))

        super().__init__(
            stem, stages, out_indices, frozen_stages, norm_eval, with_cp, init_cfg
        )


def _pointwise(in_channels: int, out_channels: int) -> dict:
    """Arguments of a 1x1 convolution."""
    return dict(in_channels=in_channels, out_channels=out_channels, kernel_size=1)


def _spatial(channels: int, stride: int, dilation: int, groups: int) -> dict:
    """Arguments of a grouped 3x3 convolution, which has no activation."""
    return dict(
        in_channels=channels,
        out_channels=channels,
        kernel_size=3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=groups,
        act_cfg=None,
    )


def _join(left: Tensor, right: Tensor) -> Tensor:
    """Concatenate the branches' (B, .., H, W) and shuffle: interleave two halves."""
    x = torch.cat((left, right), dim=1)
    if DERIVATIVE_OF_SHUFFLE:
        return F.channel_shuffle(x, NUM_BRANCHES)
    return x.unflatten(1, (NUM_BRANCHES, -1)).transpose(1, 2).flatten(1, 2)
