"""Banks and predictors with eight bits per weight: a quarter of the memory to read.

For one image, fusion and prediction read each weight to use it once, so they are bound
by memory bandwidth. Both are weighted sums of rows of a table: the kernels of an output
channel by its coefficients, the columns of a matrix by the values of a vector. That is
what PyTorch's quantised embedding bag computes, on CPUs. Each row has its own scale and
offset, so a weight is off by at most (max - min) / 510 of its row; sums, fused kernels
and convolutions are float32.
"""

import torch
from torch import Tensor, nn

from mmseg_dynet.ops import DyConv2d
from mmseg_dynet.ops.functional import check_coefficients
from mmseg_dynet.ops.per_image import check_meta


class Int8DyConv2d(DyConv2d):
    """A :class:`DyConv2d` for inference on CPUs whose bank has eight bits per weight.

    Args:
        conv: The layer to take bank, bias, predictor and geometry from.

    Raises:
        ValueError: The bank is not float32 on a CPU.
    """

    def __init__(self, conv: DyConv2d) -> None:
        bank = conv.weight.detach()
        check_packable(bank)
        nn.Module.__init__(self)  # that of DyConv2d would make a bank
        plain = {k: v for k, v in vars(conv).items() if k[0] != "_"}
        vars(self).update(plain)  # geometry, options and mode
        self.bias, self.predictor = conv.bias, conv.predictor
        # As in fuse_kernels: fused kernels have the bank's memory format.
        self.channels_last = not bank.is_contiguous()
        if self.channels_last:
            bank = bank.permute(0, 1, 3, 4, 2)
        self.kernel_shape = tuple(bank.shape[2:])
        table = bank.reshape(self.out_channels * self.num_kernels, -1)
        packed = torch.ops.quantized.embedding_bag_byte_prepack(table)
        self.register_buffer("bank", packed)  # (O * K, C/G * kH * kW + 8)
        self.register_buffer("rows", torch.arange(len(table)), persistent=False)
        bags = torch.arange(0, len(table) + 1, self.num_kernels)
        self.register_buffer("bags", bags, persistent=False)

    def fuse(self, coeff: Tensor) -> Tensor:
        """Fuse the bank with coefficients (B, O, K) to (B, O, C/G, kH, kW).

        Raises:
            ValueError: The coefficients have another shape.
        """
        # The embedding bag would read past weights that are too few.
        check_coefficients(coeff, self.out_channels, self.num_kernels)
        check_meta(self.bank, coeff)
        kernels = weighted_sums(self.bank, self.rows, self.bags, coeff.float())
        kernels = kernels.reshape(*coeff.shape[:2], *self.kernel_shape)
        return kernels.permute(0, 1, 4, 2, 3) if self.channels_last else kernels

    def fuse_feature_maps(self, x: Tensor, coeff: Tensor) -> Tensor:
        """Fuse kernels instead: a packed bank cannot be convolved with."""
        return self.convolve(x, self.fuse(coeff))


class Int8Linear(nn.Module):
    """A linear layer for single vectors on CPUs, with eight bits per weight.

    Args:
        linear: The layer to take `weight` (outputs, inputs) and `bias` from: one of a
            predictor, or an nn.Linear.

    Raises:
        ValueError: The matrix is not float32 on a CPU.
    """

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        check_packable(linear.weight)
        columns = linear.weight.detach().t().contiguous()  # (inputs, outputs)
        packed = torch.ops.quantized.embedding_bag_byte_prepack(columns)
        self.register_buffer("columns", packed)  # (inputs, outputs + 8)
        self.register_buffer("rows", torch.arange(len(columns)), persistent=False)
        bags = torch.tensor([0, len(columns)])
        self.register_buffer("bags", bags, persistent=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, inputs) to (B, outputs).

        Raises:
            ValueError: x has another shape.
        """
        if x.shape[1:] != self.rows.shape:
            raise ValueError(f"x must be (B, {len(self.rows)}), got {tuple(x.shape)}")
        out = weighted_sums(self.columns, self.rows, self.bags, x.float())
        return out if self.bias is None else out + self.bias


def weighted_sums(
    packed: Tensor, rows: Tensor, bags: Tensor, weights: Tensor
) -> Tensor:
    """Sum rows of a packed table (rows, width + 8), weighted, to (bags, width).

    For one image, ``rows`` holds those of the first bag, of the second, ...; ``bags``
    where in it each begins, and where the last ends. The bags of each image are equally
    large, and ``weights`` is (images, ..., rows of a bag).
    """
    if weights.shape[0] != 1:
        rows = rows.repeat(weights.shape[0])
        bags = torch.arange(0, len(rows) + 1, weights.shape[-1])
    return torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
        packed,
        rows,
        bags,
        per_sample_weights=weights.reshape(-1),
        include_last_offset=True,
    )


def check_packable(weights: Tensor) -> None:
    """Raise a ValueError unless weights can be packed."""
    if weights.device.type != "cpu" or weights.dtype != torch.float32:
        raise ValueError(
            f"the weights are {weights.dtype} on {weights.device}, and only float32 on "
            "a CPU is packed to eight bits: call model.float().cpu() first"
        )
