"""Dy-ResNet: MMSegmentation's ResNet with dynamic convolutions at half width.

Stem and projection shortcuts stay static (DyNet, section 3.2).
"""

from collections.abc import Sequence
from typing import ClassVar

from mmseg.models.backbones import ResNet
from torch import nn

from mmseg_dynet.models.blocks import DyBasicBlock, DyBottleneck
from mmseg_dynet.models.validation import check_choice, check_stages


class DyResNet(ResNet):
    """Dy-ResNet backbone (DyNet, table 1: Dy-ResNet18 and 50; 34 and 101 by its rule).

    Every residual stage runs at half of ResNet's width, so its outputs have
    32/64/128/256 (depth 18, 34) or 128/256/512/1024 (depth 50, 101) channels; the stem
    keeps 64. The static control of the same width, Fix-ResNet, is MMSegmentation's own
    ``ResNet(depth, base_channels=32)``. Other arguments (in_channels, strides,
    dilations, multi_grid, deep_stem, norm_eval, with_cp, ...) are ResNet's.

    Args:
        depth: 18, 34, 50 or 101.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t);
            the paper's ablation has 1, 2, 4 and 6. For the control see above.
        base_channels: Width of the first stage; it doubles from stage to stage.
        coefficients: The arguments of :class:`mmseg_dynet.ops.CoefficientOptions`.
        **kwargs: Those of MMSegmentation's ResNet, except ``conv_cfg``, ``dcn`` and
            ``plugins``, which a dynamic block does not support.

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
        coefficients: dict | None = None,
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
        self._dynamic = dict(num_kernels=num_kernels, coefficients=coefficients)
        # As in the host, an explicit init_cfg or pretrained disables our defaults.
        given = (kwargs.get("init_cfg"), kwargs.get("pretrained"))
        self._zero_last_norms = given == (None, None)
        super().__init__(
            depth, base_channels=base_channels, num_stages=num_stages,
            out_indices=out_indices, frozen_stages=frozen_stages, **kwargs,
        )  # fmt: skip

    def make_res_layer(self, **kwargs) -> nn.Module:
        """Pack the dynamic blocks of a stage into a layer of the host's."""
        if self.zero_init_residual and self._zero_last_norms:
            # The host does this for its own two block classes only.
            override = dict(name=kwargs["block"].last_norm)
            kwargs["init_cfg"] = dict(type="Constant", val=0, override=override)
        return super().make_res_layer(**self._dynamic, **kwargs)

    def train(self, mode: bool = True) -> "DyResNet":
        """Set the mode and return self, as nn.Module does and the host does not."""
        super().train(mode)
        return self
