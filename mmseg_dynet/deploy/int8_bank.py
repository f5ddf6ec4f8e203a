"""Banks of eight bits a weight: fusing reads a quarter of the memory.

For one image, fusion reads the whole bank to use each weight once, so its time is that
of the memory. The dynamic kernel and the convolution stay float32.
"""

import torch
from torch import Tensor

from mmseg_dynet.ops import DyConv2d


class Int8DyConv2d(DyConv2d):
    """A :class:`DyConv2d` for inference on CPUs whose bank has eight bits a weight.

    Each fixed kernel k of an output channel o has its own scale and offset, so a weight
    is off by at most (max - min) / 510 of its kernel. Fusion is a weighted sum of rows
    of a table, which is what PyTorch's quantised embedding bag computes; the result is
    float32.

    Args:
        conv: The layer to take bank, bias, predictor and geometry from.

    Raises:
        ValueError: The bank is not float32 on a CPU.
    """

    def __init__(self, conv: DyConv2d) -> None:
        bank = conv.weight.detach()
        if bank.device.type != "cpu" or bank.dtype != torch.float32:
            raise ValueError(
                f"the bank is {bank.dtype} on {bank.device}: int8 banks are made of "
                "float32 on a CPU, and fused there; call model.float().cpu() before"
            )
        with torch.device("meta"):  # a bank that is not kept takes no memory
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,
                conv.stride,
                conv.padding,
                conv.dilation,
                conv.groups,
                bias=False,
                num_kernels=conv.num_kernels,
                own_predictor=False,
            )
        del self.weight
        self.bias, self.predictor = conv.bias, conv.predictor
        # As in fuse_kernels: the fused kernels come out in the bank's memory format.
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
        """Fuse the bank with coefficients (B, O, K) to (B, O, C/G, kH, kW)."""
        batch, out_channels, num_kernels = coeff.shape
        rows, bags = self.rows, self.bags  # a bag: the K rows of an output channel
        if batch != 1:
            # The images of a channel lie side by side: memory is read once for all.
            coeff = coeff.transpose(0, 1)
            rows = rows.reshape(out_channels, 1, -1).expand(-1, batch, -1).reshape(-1)
            bags = torch.arange(0, len(rows) + 1, num_kernels)
        kernels = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
            self.bank,
            rows,
            bags,
            per_sample_weights=coeff.reshape(-1),
            include_last_offset=True,
        )
        kernels = kernels.reshape(out_channels, batch, *self.kernel_shape)
        if self.channels_last:
            return kernels.permute(1, 0, 4, 2, 3)
        return kernels.transpose(0, 1)
