"""Chains of convolutions, static or dynamic, from one description.

The blocks of a Dy- network and of its Fix- control differ only in their convolutions.
Both are built here, by :func:`build_branch`, so blocks need no case distinction.
"""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmseg_dynet.ops import DyConv2d, shared_predictor


class DyConvModule(ConvModule):
    """mmcv's convolution, norm and activation, with a dynamic convolution.

    Parameters have the same names as in the static module; the kernels are a bank
    (O, K, C/G, kH, kW).

    Arguments are those of :class:`mmcv.cnn.ConvModule`, except ``conv_cfg``, and
    ``num_kernels`` and ``coefficients`` of :class:`DyConv2d`.
    """

    def __init__(
        self, *args, num_kernels: int, coefficients: dict | None = None, **kwargs
    ) -> None:
        dynamic = dict(num_kernels=num_kernels, coefficients=coefficients)
        dynamic |= dict(type=DyConv2d, own_predictor=False)
        super().__init__(*args, conv_cfg=dynamic, **kwargs)

    def forward(self, x: Tensor, coeff: Tensor) -> Tensor:
        """Map x (B, C, H, W), with coefficients (B, O, K), to (B, O, H', W')."""
        for layer in self.order:
            if layer == "conv":
                if self.with_explicit_padding:
                    x = self.padding_layer(x)
                x = self.conv(x, coeff)
            elif layer == "norm" and self.with_norm:
                x = self.norm(x)
            elif layer == "act" and self.with_activation:
                x = self.activate(x)
        return x


class DynamicBranch(nn.Sequential):
    """A chain whose dynamic convolutions share one predictor (DyNet, section 3.1).

    The predictor, one linear layer, sees the input of the branch: the block's, if the
    branch begins the block. It is the last child, so layers have the static names.

    Args:
        *layers: The chain. A :class:`DyConvModule` is given coefficients; any other
            module is called with its input only. The predictor has the input channels
            of the first DyConvModule, so no layer before it may change them.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.predictor = shared_predictor(
            [layer.conv for layer in layers if isinstance(layer, DyConvModule)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the output of the last layer."""
        *layers, predictor = self
        coeffs = iter(predictor(x))
        for layer in layers:
            x = layer(x, next(coeffs)) if isinstance(layer, DyConvModule) else layer(x)
        return x


def conv_args(in_channels: int, out_channels: int, kernel_size: int, **options) -> dict:
    """Name the arguments of a ConvModule, for :func:`build_branch`."""
    channels = dict(in_channels=in_channels, out_channels=out_channels)
    return channels | dict(kernel_size=kernel_size) | options


def build_branch(
    layers: Sequence[dict | nn.Module],
    num_kernels: int | None,
    coefficients: dict | None = None,
    **shared,
) -> nn.Sequential:
    """Build a chain of layers, its convolutions dynamic or static.

    Args:
        layers: A dict holds the arguments of a :class:`mmcv.cnn.ConvModule`; a module
            (a squeeze-excite layer, padding) is used as it is.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t). None
            builds the Fix- control: static convolutions, no predictor.
        coefficients: As in :class:`DyConv2d`.
        **shared: Arguments of every ConvModule that does not have its own.

    Returns:
        A module that maps (B, C, H, W) to the output of the last layer.
    """
    if num_kernels is None:
        conv, chain = ConvModule, nn.Sequential
    else:
        conv, chain = DyConvModule, DynamicBranch
        shared |= dict(num_kernels=num_kernels, coefficients=coefficients)
    modules = [conv(**{**shared, **x}) if isinstance(x, dict) else x for x in layers]
    return chain(*modules)
