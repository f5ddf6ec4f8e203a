"""MobileNetV2 with dynamic convolutions: Dy-mobile, and the form of unchanged width.

The 3x3 stem and the last 1x1 convolution stay static. Of the readings of the paper's
rule, this one reproduces its counts of Dy-mobile (1.0): 129.3e6 MACs in convolutions
(129 M in the paper), 135.1e6 with kernel fusion and prediction (135 M).
"""

import math
from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from mmseg.models.backbones import MobileNetV2
from mmseg.models.utils import make_divisible

from mmseg_dynet.models.blocks.inverted_residual import InvertedResidual
from mmseg_dynet.models.validation import check_per_stage

from .base import BATCH_NORM, StagedBackbone

RELU6 = dict(type="ReLU6")
GROUP_CHANNELS = 6  # a group of the spatial convolution, in Dy-mobile


class DyMobileNetV2(StagedBackbone):
    """MobileNetV2 with dynamic convolutions (DyNet, section 3.2).

    Dy-mobile, the default, drops MobileNetV2's expansion: all three convolutions of a
    block have C_out channels, rounded up to a multiple of 6, and the spatial one has
    C_out / 6 groups, so it costs as much as the depthwise one did. The form with
    ``same_width=True`` is MobileNetV2 with the convolutions of its blocks made dynamic,
    used in the paper's correlation study.

    Stages 0 to 6 are MobileNetV2's, with 18/24/36/66/96/162/324 channels in Dy-mobile
    and 16/24/32/64/96/160/320 at the same width, at strides 2/4/8/16/16/32/32. Stage 7
    is the 1x1 convolution to 1280 channels in front of a classifier.

    Args:
        same_width: Whether to keep MobileNetV2's widths and its expansion.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t). None
            builds the static control: Fix-mobile, or MobileNetV2 itself.
        widen_factor: Multiplies all channels; those of the last layer only above 1.
        strides: Stride of the first block of each stage 0 .. 6, as in MMSegmentation.
        dilations: Dilation of that block. Output stride 8 takes strides
            (1, 2, 2, 1, 1, 1, 1) and dilations (1, 1, 1, 2, 2, 4, 4).
        out_indices: Stages whose outputs are returned, each in 0 .. 7.
        coefficients: The arguments of :class:`mmseg_dynet.ops.CoefficientOptions`.
        **kwargs: Those of :class:`StagedBackbone`, such as ``frozen_stages``.

    Example:
        >>> import torch
        >>> backbone = DyMobileNetV2()
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 24, 16, 16), (1, 36, 8, 8), (1, 96, 4, 4), (1, 324, 2, 2)]
    """

    def __init__(
        self,
        same_width: bool = False,
        num_kernels: int | None = 6,
        widen_factor: float = 1.0,
        strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1),
        dilations: Sequence[int] = (1, 1, 1, 1, 1, 1, 1),
        out_indices: Sequence[int] = (1, 2, 4, 6),
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU6,
        in_channels: int = 3,
        coefficients: dict | None = None,
        **kwargs,
    ) -> None:
        settings = MobileNetV2.arch_settings  # (expansion, channels, blocks) a stage
        check_per_stage(len(settings), strides=strides, dilations=dilations)
        shared = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)

        channels = make_divisible(32 * widen_factor, 8)
        stem = ConvModule(in_channels, channels, 3, stride=2, padding=1, **shared)
        stages = []
        for stage, (expansion, width, num_blocks) in enumerate(settings):
            blocks = []
            for i in range(num_blocks):
                if same_width:
                    out_channels = make_divisible(width * widen_factor, 8)
                    mid_channels = groups = channels * expansion
                else:
                    groups = math.ceil(width * widen_factor / GROUP_CHANNELS)
                    mid_channels = out_channels = groups * GROUP_CHANNELS
                block = InvertedResidual(
                    channels, mid_channels, out_channels, num_kernels, groups=groups,
                    stride=strides[stage] if i == 0 else 1,
                    dilation=dilations[stage] if i == 0 else 1,
                    expand=not same_width or expansion != 1,
                    coefficients=coefficients, **shared,
                )  # fmt: skip
                blocks.append(block)
                channels = out_channels
            stages.append(Sequential(*blocks))
        last_channels = make_divisible(1280 * max(widen_factor, 1), 8)
        stages.append(Sequential(ConvModule(channels, last_channels, 1, **shared)))

        super().__init__(stem, stages, out_indices, **kwargs)
