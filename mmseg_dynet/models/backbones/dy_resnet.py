"""Dy-ResNet: MMSegmentation's ResNet with dynamic convolutions at half width.

Stem and projection shortcuts stay static. Each residual block predicts the
coefficients of all its convolutions once, from its input (DyNet, section 3.2 and
figure 2).
"""

from collections.abc import Sequence
from typing import ClassVar

from mmseg.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg_dynet.models.validation import check_choice, check_stages
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d


class _DynamicBlock:
    """Mixin over a residual block of the host: dynamic convolutions, one predictor.

    The host's block builds its convolutions from ``conv_cfg``; the shortcut is built
    outside of it and stays static. Here the convolutions become dynamic, and a
    predictor with a hidden layer of a quarter of the block's input serves them all.

    Args:
        inplanes: Input channels.
        planes: Width of the block; its output has ``planes * expansion`` channels.
        num_kernels: K, the fixed kernels an output channel owns (the paper's g_t).
        conv_cfg: Ignored but for the shortcut, which the host has built from it.
        **kwargs: Those of the host's block.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        num_kernels: int = 6,
        conv_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        dynamic = dict(type=DyConv2d, num_kernels=num_kernels, own_predictor=False)
        super().__init__(inplanes, planes, conv_cfg=dynamic, **kwargs)
        convs = [m for m in self.children() if isinstance(m, DyConv2d)]
        self.predictor = CoefficientPredictor(
            inplanes,
            [conv.out_channels for conv in convs],
            num_kernels,
            hidden_channels=inplanes // 4,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inplanes, H, W) to (B, planes * expansion, H', W')."""
        if self.with_cp and x.requires_grad:
            out = checkpoint(self._residual, x, use_reentrant=False)
        else:
            out = self._residual(x)
        return self.relu(out)


class DyBasicBlock(_DynamicBlock, BasicBlock):
    """Basic block whose two 3x3 convolutions are dynamic."""

    last_norm = "norm2"

    def _residual(self, x: Tensor) -> Tensor:
        coeff1, coeff2 = self.predictor(x)
        out = self.relu(self.norm1(self.conv1(x, coeff1)))
        out = self.norm2(self.conv2(out, coeff2))
        return out.add_(x if self.downsample is None else self.downsample(x))


class DyBottleneck(_DynamicBlock, Bottleneck):
    """Bottleneck block whose 1x1, 3x3 and 1x1 convolutions are dynamic."""

    last_norm = "norm3"

    def _residual(self, x: Tensor) -> Tensor:
        coeff1, coeff2, coeff3 = self.predictor(x)
        out = self.relu(self.norm1(self.conv1(x, coeff1)))
        out = self.relu(self.norm2(self.conv2(out, coeff2)))
        out = self.norm3(self.conv3(out, coeff3))
        return out.add_(x if self.downsample is None else self.downsample(x))


class DyResNet(ResNet):
    """Dy-ResNet backbone (DyNet, table 1: Dy-ResNet18 and 50; 34 and 101 by its rule).

    Every residual stage runs at half of ResNet's width, so its outputs have
    32/64/128/256 (depth 18, 34) or 128/256/512/1024 (depth 50, 101) channels; the stem
    keeps 64. The static control of the same width, Fix-ResNet, is MMSegmentation's own
    ``ResNet(depth, base_channels=32)``; ResNet's arguments (strides, dilations,
    multi_grid, deep_stem, frozen_stages, norm_eval, with_cp, ...) mean what they mean
    there.

    Args:
        depth: 18, 34, 50 or 101.
        num_kernels: K, the fixed kernels an output channel owns (the paper's g_t);
            the paper's ablation has 1, 2, 4 and 6. Not None: see above for the control.
        base_channels: Width of the first stage; it doubles from stage to stage.
        num_stages: 1 to 4.
        out_indices: Stages whose outputs are returned, each in 0 .. num_stages - 1.
        frozen_stages: -1 freezes nothing; i freezes the stem and stages 1 .. i.
        **kwargs: Those of MMSegmentation's ResNet, but for ``conv_cfg``, ``dcn`` and
            ``plugins``, for which a dynamic block has no place.

    Raises:
        ValueError: An option is out of its range.

    Example:
        >>> import torch
        >>> backbone = DyResNet(18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 32, 16, 16), (1, 64, 8, 8), (1, 128, 8, 8), (1, 256, 8, 8)]
    """

    arch_settings: ClassVar = {
        18: (DyBasicBlock, (2, 2, 2, 2)),
        34: (DyBasicBlock, (3, 4, 6, 3)),
        50: (DyBottleneck, (3, 4, 6, 3)),
        101: (DyBottleneck, (3, 4, 23, 3)),
    }

    def __init__(
        self,
        depth: int,
        num_kernels: int = 6,
        base_channels: int = 32,
        num_stages: int = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        **kwargs,
    ) -> None:
        check_choice("depth", depth, self.arch_settings)
        check_choice("num_stages", num_stages, range(1, 5))
        check_stages(num_stages, out_indices, frozen_stages)
        for unsupported in ("conv_cfg", "dcn", "plugins"):
            if kwargs.get(unsupported) is not None:
                raise ValueError(
                    f"DyResNet does not take {unsupported}={kwargs[unsupported]!r}: "
                    "its blocks bring their own convolutions; remove the option"
                )
        if num_kernels is None:
            raise ValueError(
                "DyResNet has no static variant, num_kernels=None: the control of the "
                f"same width is ResNet(depth={depth}, base_channels={base_channels})"
            )
        self.num_kernels = num_kernels
        # As in the host, whoever gives weights or an init_cfg says all.
        given = (kwargs.get("init_cfg"), kwargs.get("pretrained"))
        self._zero_last_norms = given == (None, None)
        super().__init__(
            depth,
            base_channels=base_channels,
            num_stages=num_stages,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            **kwargs,
        )

    def make_res_layer(self, **kwargs) -> nn.Module:
        """Pack the dynamic blocks of a stage into a layer of the host's."""
        if self.zero_init_residual and self._zero_last_norms:
            # The host gives this to its own two block classes only.
            override = dict(name=kwargs["block"].last_norm)
            kwargs["init_cfg"] = dict(type="Constant", val=0, override=override)
        return super().make_res_layer(num_kernels=self.num_kernels, **kwargs)

    def train(self, mode: bool = True) -> "DyResNet":
        """Set the mode and return self, as nn.Module does and the host does not."""
        super().train(mode)
        return self
