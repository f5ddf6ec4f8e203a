"""The dynamic convolution layer.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from .functional import dynamic_conv2d_feature_fusion, fuse_kernels
from .per_image import IntOrPair, conv2d_per_image, fuses_feature_maps
from .predictor import CoefficientOptions, CoefficientPredictor


class DyConv2d(nn.Module):
    """Dynamic 2-D convolution (DyNet, section 3): a drop-in for :class:`nn.Conv2d`.

    By default it predicts its coefficients from its own input, so that
    ``conv_cfg=dict(type="DyConv2d")`` makes an mmcv ConvModule dynamic. With
    ``own_predictor=False`` it is given them instead: in the paper's networks, a block
    predicts once for all of its layers.

    Deliberately not a subclass of :class:`nn.Conv2d`: code that looks for one (weight
    initialisers, BN folding) would take the 5-D bank for a 4-D kernel. So MMEngine's
    ``dwconv_decay_mult`` does not apply to it; ``custom_keys`` do.

    Costs one static convolution, B * O * H' * W' * (C/G) * kH * kW MACs, plus
    B * O * K * (C/G) * kH * kW for the fusion, plus B * C * O * K if it predicts.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: Kernel side, or (kH, kW).
        stride: As in :class:`nn.Conv2d`.
        padding: As in :class:`nn.Conv2d`, in pixels; always zeros.
        dilation: As in :class:`nn.Conv2d`.
        groups: G, the groups of a grouped convolution.
        bias: Whether to add a static bias.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t).
        own_predictor: Whether the layer has a predictor, for calls without ``coeff``.
        coefficients: How coefficients are predicted, by this layer or its block: the
            arguments of :class:`CoefficientOptions`. The bank is initialised for them.

    Raises:
        ValueError: A number is not positive, padding is negative or a string,
            ``groups`` does not divide the channels, or an option is not allowed.
    """

    # What mmcv's ConvModule reads from a convolution.
    transposed = False
    output_padding = (0, 0)
    # The function that fuses the bank; deployment replaces it by a faster one.
    fusion = staticmethod(fuse_kernels)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        num_kernels: int = 6,
        own_predictor: bool = True,
        coefficients: Mapping | CoefficientOptions | None = None,
    ) -> None:
        super().__init__()
        positive = dict(
            in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size,
            stride=stride, dilation=dilation, groups=groups, num_kernels=num_kernels,
        )  # fmt: skip
        for name, value in positive.items():
            if any(not number or number < 1 for number in _pair(value)):
                raise ValueError(f"{name} must be at least 1, got {value}")
        if isinstance(padding, str) or min(_pair(padding)) < 0:
            raise ValueError(
                f"padding must be pixels, at least 0, got {padding!r}: to keep the "
                "size, give dilation * (kernel_size - 1) // 2"
            )
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.num_kernels = num_kernels
        self.options = CoefficientOptions.of(coefficients)
        self.options.num_predicted(num_kernels)  # raises before anything is built
        self.bank_shape = torch.Size(
            (out_channels, num_kernels, in_channels // groups, *self.kernel_size)
        )
        self.weight = nn.Parameter(torch.empty(self.bank_shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.predictor = shared_predictor([self]) if own_predictor else None
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the bank so that the fused kernel is Kaiming-normal.

        Coefficients start near some c, 1/2 by default, so a sum of K kernels of
        variance v has variance K * c**2 * v. If the kernels have 1 / (K * c**2) times
        Kaiming's variance (fan_out, ReLU, as MMSegmentation initialises static
        convolutions), the fused kernel has Kaiming's. A static kernel has Kaiming's.

        MMEngine calls this method by name; mmcv's ConvModule then leaves it alone.
        """
        with torch.no_grad():
            for kernel in self.weight.unbind(1):  # K views of (O, C/G, kH, kW)
                nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")
            if self.options.static_kernel:
                self.weight[:, 1:] = 0
            else:
                start = self.options.start(self.num_kernels)
                self.weight.mul_(1 / start / math.sqrt(self.num_kernels))
            if self.bias is not None:
                self.bias.zero_()

    def bank_around(self, kernel: Tensor) -> Tensor:
        """Make a random bank (O, K, C/G, kH, kW) that first fuses to a given kernel.

        The kernel is w, (O, C/G, kH, kW). The bank fuses to it with the coefficients of
        ``CoefficientPredictor.predict_start``. :mod:`mmseg_dynet.models.from_static`
        explains why its kernels differ, and by how much.
        """
        kernel = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
        kernel, num_kernels = kernel.unsqueeze(1), self.num_kernels
        if self.options.static_kernel:
            return F.pad(kernel, (*[0] * 7, num_kernels - 1))
        z = torch.randn_like(kernel.expand(-1, num_kernels, -1, -1, -1))
        z = z - z.mean(1, keepdim=True)
        size = kernel.square().mean((2, 3, 4), keepdim=True).sqrt()  # (O, 1, 1, 1, 1)
        # Around zero, as large as those of a new layer: equal kernels stay equal.
        size = torch.where(size > 0, size, math.sqrt(2 / kernel[:, 0, 0].numel()))
        bank = kernel / num_kernels + size * z / math.sqrt(num_kernels)
        return bank / self.options.start(num_kernels)

    def forward(self, x: Tensor, coeff: Tensor | None = None) -> Tensor:
        """Convolve x (B, C, H, W) to (B, O, H', W') with coefficients (B, O, K).

        Raises:
            ValueError: Coefficients or a predictor are missing, or a shape is wrong.
        """
        if coeff is None:
            if self.predictor is None:
                raise ValueError(
                    "this DyConv2d was built with own_predictor=False: pass coeff "
                    f"(B, {self.out_channels}, {self.num_kernels}), or build it with "
                    "own_predictor=True"
                )
            (coeff,) = self.predictor(x)
        if fuses_feature_maps(x, coeff, self.bank_shape, self.stride):
            return self.fuse_feature_maps(x, coeff)
        return self.convolve(x, self.fuse(coeff))

    def fuse(self, coeff: Tensor) -> Tensor:
        """Fuse the bank with coefficients (B, O, K) to (B, O, C/G, kH, kW)."""
        return self.fusion(self.weight, coeff)

    def fuse_feature_maps(self, x: Tensor, coeff: Tensor) -> Tensor:
        """Convolve x (B, C, H, W) with each kernel of the bank, and sum the results."""
        return dynamic_conv2d_feature_fusion(
            x, self.weight, coeff, self.bias, *self._geometry
        )

    def convolve(self, x: Tensor, kernels: Tensor) -> Tensor:
        """Convolve x (B, C, H, W) with fused kernels (B, O, C/G, kH, kW)."""
        return conv2d_per_image(x, kernels, self.bias, *self._geometry)

    @property
    def _geometry(self) -> tuple:
        return self.stride, self.padding, self.dilation, self.groups

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "DyConv2d":
        """Move or convert the bank as O * K kernels of four dimensions.

        ``model.to(memory_format=torch.channels_last)`` converts every 4-D and 5-D
        tensor, and fails on 5-D ones. As 4-D kernels the bank takes that format, and
        so do the kernels that are fused from it.
        """

        def apply(tensor: Tensor) -> Tensor:
            if tensor.ndim != 5:
                return fn(tensor)
            return fn(tensor.flatten(0, 1)).unflatten(0, tensor.shape[:2])

        return super()._apply(apply, recurse)

    def extra_repr(self) -> str:
        """Describe the layer as :class:`nn.Conv2d` does, with its number of kernels."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={self.bias is not None}, "
            f"num_kernels={self.num_kernels}"
        )


def shared_predictor(
    layers: Sequence[DyConv2d], hidden_channels: int | None = None
) -> CoefficientPredictor:
    """Build a block's predictor, which sees the input of the first of its layers.

    Args:
        layers: With equal ``num_kernels`` and ``coefficients``.
        hidden_channels: Width of the predictor's hidden layer; None for none.
    """
    first = layers[0]
    return CoefficientPredictor(
        first.in_channels,
        [layer.out_channels for layer in layers],
        first.num_kernels,
        hidden_channels,
        first.options,
    )
