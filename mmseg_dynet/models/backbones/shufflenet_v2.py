"""ShuffleNetV2, which MMSegmentation lacks, and Dy-shuffle.

ShuffleNetV2's strided unit is that of its authors, whose projection keeps its input's
channels. It reproduces the published 146/299/591 M MACs, which the variant with two
equal halves, torchvision's, does not (145/296/583 M).

Of the readings of DyNet's rule for Dy-shuffle, ours reproduces all of the paper's
counts, in units of 2^20 and without the classifier: 88.4 MACs in convolutions for width
1.0 (88 in the paper), 92.4 with kernel fusion and prediction (92), and 171.2 in
convolutions for width 1.5 (171).
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from torch import nn

from mmseg_dynet.models.blocks import ProjectionUnit, ShuffleUnit
from mmseg_dynet.models.validation import check_choice, check_per_stage

from .base import BATCH_NORM, StagedBackbone

RELU = dict(type="ReLU")


class ShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 (Ma et al., ECCV 2018, arXiv 1807.11164).

    A stem of stride 4 with 24 channels, then stages 0 to 2 of 4, 8 and 4 units at
    strides 8, 16 and 32. Stage 3 is the 1x1 convolution in front of a classifier. Their
    channels are in ``arch_settings``.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        strides: Stride of the first unit of each stage 0 .. 2.
        dilations: Dilation of each stage 0 .. 2. Its first unit has that of the stage
            before, since its input is still spaced like that. The network then computes
            what the strided one does, on a denser grid. Output stride 8 takes strides
            (2, 1, 1) and dilations (1, 2, 4), 16 takes (2, 2, 1) and (1, 1, 2).
        out_indices: Stages whose outputs are returned, each in 0 .. 3.
        num_kernels: K, for the right branches, as in :class:`DyShuffleNetV2`.
        coefficients: The arguments of :class:`mmseg_dynet.ops.CoefficientOptions`.
        **kwargs: Those of :class:`StagedBackbone`, such as ``frozen_stages``.

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
    # The right branch of a unit that splits its channels gets 1 / split_parts of them.
    split_parts = 2

    def __init__(
        self,
        widen_factor: float = 1.0,
        strides: Sequence[int] = (2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2),
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        in_channels: int = 3,
        num_kernels: int | None = None,
        coefficients: dict | None = None,
        **kwargs,
    ) -> None:
        check_choice("widen_factor", widen_factor, self.arch_settings)
        check_per_stage(len(self.num_units), strides=strides, dilations=dilations)
        static = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        shared = static | dict(num_kernels=num_kernels, coefficients=coefficients)

        channels, in_dilation = 24, 1
        stem = Sequential(
            ConvModule(in_channels, channels, 3, stride=2, padding=1, **static),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        *widths, last_channels = self.arch_settings[widen_factor]
        stages = []
        for out_channels, num_units, stride, dilation in zip(
            widths, self.num_units, strides, dilations, strict=True
        ):
            projection = ProjectionUnit(
                channels, out_channels, stride=stride, dilation=in_dilation, **shared
            )
            right_channels = out_channels // self.split_parts
            # With half of the channels and twice as many per group, the spatial
            # convolution costs the same. 29 and 61 channels are prime: no groups of 2.
            group_channels = math.gcd(right_channels, self.split_parts // 2)
            spatial = dict(dilation=dilation, groups=right_channels // group_channels)
            units = [
                ShuffleUnit(out_channels, right_channels, **spatial, **shared)
                for _ in range(num_units - 1)
            ]
            stages.append(Sequential(projection, *units))
            channels, in_dilation = out_channels, dilation
        stages.append(Sequential(ConvModule(channels, last_channels, 1, **static)))

        super().__init__(stem, stages, out_indices, **kwargs)


class DyShuffleNetV2(ShuffleNetV2):
    """ShuffleNetV2 with dynamic convolutions (DyNet, section 3.2).

    A stride-1 unit splits its channels 3:1 instead of 1:1. The convolutions of the
    right branch are dynamic and share one linear predictor, which sees the branch's
    input. The spatial one has groups of two channels, so it costs as much as the
    depthwise one of the static network. A right branch of 29 channels (stage 0 of width
    1.0) or 61 (of 2.0), which are primes, stays depthwise. The right branch of a
    stage's first unit, which does not split, is dynamic too and keeps its widths. All
    else is static. Channels and strides of the stages are ShuffleNetV2's.

    Args:
        widen_factor: As in :class:`ShuffleNetV2`.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t). None
            builds the static control of the same width, Fix-shuffle.
        **kwargs: Those of :class:`ShuffleNetV2`, such as ``coefficients``.

    Example:
        >>> import torch
        >>> backbone = DyShuffleNetV2(strides=(2, 1, 1), dilations=(1, 2, 4))
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 116, 8, 8), (1, 232, 8, 8), (1, 464, 8, 8)]
    """

    split_parts = 4

    def __init__(
        self, widen_factor: float = 1.0, num_kernels: int | None = 6, **kwargs
    ) -> None:
        super().__init__(widen_factor, num_kernels=num_kernels, **kwargs)
