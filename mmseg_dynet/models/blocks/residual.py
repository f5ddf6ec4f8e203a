"""Residual blocks of Dy-ResNet: the host's, with dynamic convolutions.

Each block predicts the coefficients of all its convolutions once, from its input
(DyNet, section 3.2 and figure 2).
"""

from mmseg.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmseg_dynet.ops import DyConv2d, shared_predictor


class _DynamicBlock:
    """Mixin over a residual block of the host: dynamic convolutions, one predictor.

    The host's block builds its convolutions from ``conv_cfg``; the shortcut is built
    elsewhere and stays static. The predictor's hidden layer has a quarter of the input
    channels.

    Arguments are those of the host's block, and ``num_kernels`` and ``coefficients`` of
    :class:`DyConv2d`. ``conv_cfg`` is ignored: the host has built the shortcut from it.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        num_kernels: int = 6,
        coefficients: dict | None = None,
        conv_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        dynamic = dict(num_kernels=num_kernels, coefficients=coefficients)
        dynamic |= dict(type=DyConv2d, own_predictor=False)
        super().__init__(inplanes, planes, conv_cfg=dynamic, **kwargs)
        convs = [m for m in self.children() if isinstance(m, DyConv2d)]
        self.predictor = shared_predictor(convs, hidden_channels=inplanes // 4)

    def _residual(self, x: Tensor) -> Tensor:
        coeffs = self.predictor(x)
        out = x
        for i, coeff in enumerate(coeffs, start=1):
            conv, norm = getattr(self, f"conv{i}"), getattr(self, f"norm{i}")
            out = norm(conv(out, coeff))
            if i < len(coeffs):
                out = self.relu(out)
        return out.add_(x if self.downsample is None else self.downsample(x))

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


class DyBottleneck(_DynamicBlock, Bottleneck):
    """Bottleneck block whose 1x1, 3x3 and 1x1 convolutions are dynamic."""

    last_norm = "norm3"
