"""MobileNetV3 with dynamic convolutions at unchanged width.

The stem, the squeeze-excite layers and the last 1x1 convolution stay static. Of the
readings of the paper, this one reproduces its counts: 58.95e6 MACs for Small (59 M in
the paper) and 227.8e6 for Large (228 M) in convolutions, kernel fusion and prediction.
"""

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from mmseg.models.backbones import MobileNetV3
from mmseg.models.utils import make_divisible
from torch import nn

from mmseg_dynet.models.blocks.inverted_residual import InvertedResidual, SamePadding
from mmseg_dynet.models.validation import check_choice, check_per_stage

from .base import BATCH_NORM, StagedBackbone


class DyMobileNetV3(StagedBackbone):
    """MobileNetV3 whose blocks have dynamic convolutions (DyNet, table 1).

    A stage holds the blocks of one width. The last stage is the 1x1 convolution to six
    times the channels before it.

    ======  =============================  ===================
    arch    channels of the stages         strides
    ======  =============================  ===================
    small   16/24/40/48/96/576             4/8/16/16/32/32
    large   16/24/40/80/112/160/960        2/4/8/16/16/32/32
    ======  =============================  ===================

    Args:
        arch: "small" or "large".
        num_kernels: K, the fixed kernels per output channel (the paper's g_t). None
            builds MobileNetV3 itself, the static control.
        widen_factor: Multiplies the channels of every layer.
        strides: Of the first block of each stage but the last; None: as in the table.
        dilations: Dilation of all blocks of each stage except the last. None means 1.
            Output stride 8, the only one of MMSegmentation's MobileNetV3, takes strides
            (2, 2, 1, 1, 1) and dilations (1, 1, 2, 2, 4) in "small", and
            (1, 2, 2, 1, 1, 1) and (1, 1, 1, 2, 2, 4) in "large".
        same_padding: Whether a strided convolution is padded as TensorFlow and
            MMSegmentation do: one pixel less at the top and left of even sides. Weights
            trained in torchvision's or mmpretrain's MobileNetV3 need False: equal
            padding on all sides. Names of weights do not depend on it.
        out_indices: Stages whose outputs are returned. None means the last.
        coefficients: The arguments of :class:`mmseg_dynet.ops.CoefficientOptions`.
        **kwargs: Those of :class:`StagedBackbone`, such as ``frozen_stages``.

    Example:
        >>> import torch
        >>> backbone = DyMobileNetV3("small", out_indices=(0, 1, 3, 5))
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 16, 16, 16), (1, 24, 8, 8), (1, 48, 4, 4), (1, 576, 2, 2)]
    """

    def __init__(
        self,
        arch: str = "small",
        num_kernels: int | None = 6,
        widen_factor: float = 1.0,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        same_padding: bool = True,
        out_indices: Sequence[int] | None = None,
        norm_cfg: dict = BATCH_NORM,
        in_channels: int = 3,
        coefficients: dict | None = None,
        **kwargs,
    ) -> None:
        check_choice("arch", arch, MobileNetV3.arch_settings)
        # A block is (kernel size, mid channels, out channels, squeeze-excite,
        # activation, stride); the blocks of a stage have equal out channels.
        settings = MobileNetV3.arch_settings[arch]
        blocks_of_stage = [list(b) for _, b in groupby(settings, lambda row: row[2])]
        num_stages = len(blocks_of_stage)
        if strides is None:
            strides = [rows[0][-1] for rows in blocks_of_stage]
        if dilations is None:
            dilations = [1] * num_stages
        if out_indices is None:
            out_indices = [num_stages]
        check_per_stage(num_stages, strides=strides, dilations=dilations)

        def widen(channels: int) -> int:
            return make_divisible(channels * widen_factor, 8)

        def pad_layer(kernel_size: int, stride: int, dilation: int) -> nn.Module:
            # Always a layer, so that names of weights do not depend on the option. At
            # stride 1 both options pad alike.
            if same_padding and stride > 1:
                return SamePadding(kernel_size, stride, dilation)
            return nn.Identity()

        static = partial(ConvModule, norm_cfg=norm_cfg, act_cfg=dict(type="HSwish"))
        channels = widen(16)
        padding = 0 if same_padding else 1
        stem = Sequential(
            pad_layer(3, stride=2, dilation=1),
            static(in_channels, channels, 3, stride=2, padding=padding),
        )
        stages = []
        for rows, first_stride, dilation in zip(
            blocks_of_stage, strides, dilations, strict=True
        ):
            blocks = []
            for i, (kernel_size, mid, out, squeeze, act, _) in enumerate(rows):
                mid_channels, out_channels = widen(mid), widen(out)
                stride = first_stride if i == 0 else 1
                block = InvertedResidual(
                    channels, mid_channels, out_channels, num_kernels,
                    kernel_size=kernel_size, stride=stride, dilation=dilation,
                    groups=mid_channels, expand=mid_channels != channels,
                    squeeze=squeeze, coefficients=coefficients,
                    pad_layer=pad_layer(kernel_size, stride, dilation),
                    norm_cfg=norm_cfg, act_cfg=dict(type=act),
                )  # fmt: skip
                blocks.append(block)
                channels = out_channels
            stages.append(Sequential(*blocks))
        stages.append(Sequential(static(channels, 6 * channels, 1)))

        super().__init__(stem, stages, out_indices, **kwargs)
