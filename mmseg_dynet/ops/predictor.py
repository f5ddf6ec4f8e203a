"""Prediction of the coefficients that fuse a bank of fixed kernels.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class CoefficientPredictor(nn.Module):
    """Predict the coefficients of all dynamic layers of a block from its input.

    Global average pooling, one or two fully connected layers, sigmoid; the output is
    split between the layers (DyNet, section 3.1 and figure 2). Nothing is normalised:
    the K coefficients of a channel lie in (0, 1) and need not sum to one, and a
    BatchNorm on a pooled 1x1 map could not train at batch size 1.

    Costs C * M MACs per image, with M = sum(out_channels) * K, or C * hidden +
    hidden * M with a hidden layer.

    Args:
        in_channels: C, the channels of the block's input.
        out_channels: Output channels O of each dynamic layer.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t).
        hidden_channels: Width of a hidden layer with ReLU. None means one linear
            layer, as in Dy-mobile and Dy-shuffle; Dy-ResNet uses C / 4.

    Raises:
        ValueError: A width is not positive, or out_channels is empty.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Sequence[int],
        num_kernels: int = 6,
        hidden_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = tuple(out_channels)
        self.num_kernels = num_kernels
        widths = [in_channels, num_kernels, *self.out_channels]
        if hidden_channels is not None:
            widths.append(hidden_channels)
        if not self.out_channels or min(widths) < 1:
            raise ValueError(
                "in_channels, num_kernels, hidden_channels and each of out_channels "
                f"must be at least 1, got in_channels={in_channels}, "
                f"num_kernels={num_kernels}, hidden_channels={hidden_channels}, "
                f"out_channels={self.out_channels}"
            )
        self.hidden = (
            None if hidden_channels is None else nn.Linear(in_channels, hidden_channels)
        )
        self.logits = nn.Linear(
            hidden_channels or in_channels, sum(self.out_channels) * num_kernels
        )

    def predict_half(self) -> None:
        """Initialise so that all coefficients are 1/2, whatever the image."""
        if self.hidden is not None:
            self.hidden.reset_parameters()
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map the block's input (B, C, H, W) to one (B, O, K) tensor per layer.

        Raises:
            ValueError: The input does not have four dimensions or C channels.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"x must be (B, C, H, W) = (B, {self.in_channels}, H, W), got shape "
                f"{tuple(x.shape)}"
            )
        context = x.mean((2, 3))  # (B, C)
        if self.hidden is not None:
            context = F.relu(self.hidden(context))
        coeff = self.logits(context).sigmoid()  # (B, sum(O) * K)
        coeff = coeff.unflatten(1, (-1, self.num_kernels))  # (B, sum(O), K)
        return coeff.split(self.out_channels, dim=1)
