"""Convolve each image of a batch with a kernel of its own.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.

There are three ways, which agree in value and gradient and differ in speed;
:mod:`mmseg_dynet.ops.implementation` says when which one is used.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from .implementation import choose

IntOrPair = int | tuple[int, int]


def conv2d_per_image(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve image b with kernel b.

    Costs B * O * H' * W' * (C/G) * kH * kW MACs, as one static convolution does.

    Args:
        x: Images, (B, C, H, W).
        kernels: One kernel an image, (B, O, C/G, kH, kW).
        bias: Static bias, (O,), added after the convolution.
        stride: As in :func:`torch.nn.functional.conv2d`.
        padding: As in :func:`torch.nn.functional.conv2d`, in pixels.
        dilation: As in :func:`torch.nn.functional.conv2d`.
        groups: G, the groups of a grouped convolution (not the paper's group size).

    Returns:
        Feature maps, (B, O, H', W').

    Raises:
        ValueError: The shapes do not fit together.
    """
    check_shapes(x, kernels.shape, bias, groups)
    convolve = _IMPLEMENTATIONS[choose(x, kernels, groups)]
    return convolve(x, kernels, bias, stride, padding, dilation, groups)


def _grouped(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair,
    dilation: IntOrPair,
    groups: int,
) -> Tensor:
    batch, channels, height, width = x.shape
    if batch < 2:  # reshaped, x would lose the strides that mark it as channels_last
        kernel = kernels[0] if batch else kernels.sum(0)
        return F.conv2d(x, kernel, bias, stride, padding, dilation, groups)
    # (B, C, H, W) -> (1, B*C, H, W): image b owns the channels b*C .. (b+1)*C
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        kernels.flatten(0, 1),
        None if bias is None else bias.repeat(batch),
        stride,
        padding,
        dilation,
        batch * groups,
    )
    return out.reshape(batch, kernels.shape[1], *out.shape[2:])


def _loop(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair,
    dilation: IntOrPair,
    groups: int,
) -> Tensor:
    # Split, not indexed: the backward pass of an index fills a whole batch with zeros.
    images = zip(x.split(1), kernels.unbind(), strict=True)
    return torch.cat(
        [F.conv2d(i, k, bias, stride, padding, dilation, groups) for i, k in images]
    )


def _matmul(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair,
    dilation: IntOrPair,
    groups: int,
) -> Tensor:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    (pad_h, pad_w), strides, dilations = _pair(padding), _pair(stride), _pair(dilation)
    one_pixel = kernels.shape[3:] == (1, 1) and strides == (1, 1)
    if (
        len(x) == 1
        and channels_last
        and groups == 1
        and one_pixel
        and not (pad_h or pad_w)
    ):
        # What the sequel does, in the fewest calls: it is chosen where these count.
        kernel = kernels.reshape(kernels.shape[1:3])
        return F.linear(x.permute(0, 2, 3, 1), kernel, bias).permute(0, 3, 1, 2)
    if pad_h or pad_w:
        x = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(
            x.shape[2:], kernels.shape[3:], strides, dilations, strict=True
        )
    ]
    multiply = _multiply_pixels if groups == 1 and channels_last else _multiply_channels
    out = bias
    for row in range(kernels.shape[3]):
        for column in range(kernels.shape[4]):
            under = [  # the pixels that this position of the kernel is multiplied with
                slice(first * d, first * d + (size - 1) * s + 1, s)
                for first, size, s, d in zip(
                    (row, column), sizes, strides, dilations, strict=True
                )
            ]
            pixels = x[:, :, under[0], under[1]]
            out = multiply(out, pixels, kernels[..., row, column], groups)
    if multiply is _multiply_pixels:
        return out.unflatten(1, sizes).permute(0, 3, 1, 2)
    return out.reshape(x.shape[0], kernels.shape[1], *sizes)


def _multiply_pixels(
    out: Tensor | None, pixels: Tensor, kernels: Tensor, groups: int
) -> Tensor:
    """Accumulate (B, H'W', O): channels_last, where pixels are rows."""
    rows = pixels.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H'W', C)
    columns = kernels.transpose(1, 2)  # (B, C, O)
    return rows @ columns if out is None else torch.baddbmm(out, rows, columns)


def _multiply_channels(
    out: Tensor | None, pixels: Tensor, kernels: Tensor, groups: int
) -> Tensor:
    """Accumulate (B*G, O/G, H'W'): contiguous, where channels are rows."""
    batch, out_channels, _ = kernels.shape
    rows = kernels.reshape(batch * groups, out_channels // groups, -1)
    columns = pixels.flatten(2).reshape(batch * groups, rows.shape[2], -1)
    if out is None:
        return rows @ columns
    if out.ndim == 1:  # the bias, (O,)
        out = out.reshape(groups, -1, 1).repeat(batch, 1, 1)
    return torch.baddbmm(out, rows, columns)


_IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "grouped": _grouped,
    "loop": _loop,
    "matmul": _matmul,
}


def check_shapes(
    x: Tensor, kernels: Sequence[int], bias: Tensor | None, groups: int
) -> None:
    """Raise a ValueError that names the first shape that does not fit.

    Args:
        x: Images, (B, C, H, W).
        kernels: The shape of one kernel an image, (B, O, C/G, kH, kW).
        bias: (O,).
        groups: G.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be (B, C, H, W), got shape {tuple(x.shape)}")
    if len(kernels) != 5:
        raise ValueError(
            f"kernels must be (B, O, C/groups, kH, kW), got shape {tuple(kernels)}"
        )
    batch, channels = x.shape[:2]
    num_kernels, out_channels, group_channels = kernels[:3]
    if groups < 1 or out_channels % groups or channels != group_channels * groups:
        raise ValueError(
            f"groups={groups} does not fit: x has C={channels} channels, kernels take "
            f"{group_channels} channels a group and give O={out_channels}; groups must "
            f"divide O, and C must be groups * {group_channels}"
        )
    if num_kernels != batch:
        raise ValueError(
            f"{batch} images, but kernels or coefficients for {num_kernels}: give one "
            "set an image"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(
            f"bias must be (O,) = {(out_channels,)}, got shape {tuple(bias.shape)}"
        )
