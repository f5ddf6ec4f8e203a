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
        ValueError: The shapes, dtypes or devices do not fit together, or an image is
            smaller than the kernel.
    """
    check_devices(x=x, kernels=kernels, bias=bias)
    check_shapes(x, kernels.shape, bias, groups)
    convolve = _IMPLEMENTATIONS[choose(x, kernels, groups)]
    try:
        return convolve(x, kernels, bias, stride, padding, dilation, groups)
    except RuntimeError as error:
        refuse_dtypes(error, x=x, kernels=kernels, bias=bias)
        refuse_geometry(error, x, kernels.shape[3:], stride, padding, dilation)
        raise


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
        # Not kernels[0]: in a graph that was traced with one image, the kernel of the
        # first would go on to convolve all images of a batch, without a word. So they
        # get too many channels.
        kernel = kernels.flatten(0, 1) if batch else kernels.sum(0)
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


def _loop(x: Tensor, kernels: Tensor, bias: Tensor | None, *geometry) -> Tensor:
    if not x.shape[0]:  # forced: split, it would be one image without numbers
        return _grouped(x, kernels, bias, *geometry)
    # Split, not indexed: the backward pass of an index fills a whole batch with zeros.
    images = zip(x.split(1), kernels.unbind(), strict=True)
    return torch.cat([F.conv2d(i, k, bias, *geometry) for i, k in images])


def _matmul(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair,
    *_: object,
) -> Tensor:
    """Multiply the pixels with kernels (B, O, C, 1, 1); ungrouped."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    (pad_h, pad_w), (step_h, step_w) = _pair(padding), _pair(stride)
    if pad_h or pad_w:
        if min(pad_h, pad_w) < 0:
            raise ValueError(f"padding={padding} must not be negative")
        x = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    if (step_h, step_w) != (1, 1):
        x = x[:, :, ::step_h, ::step_w]
    kernels = kernels.flatten(2)  # (B, O, C)
    if not channels_last:
        pixels = x.flatten(2)  # (B, C, H'W')
        out = _multiply(kernels, pixels, None if bias is None else bias[:, None])
        return out.unflatten(2, x.shape[2:])
    x = x.permute(0, 2, 3, 1)
    # In the fewest calls: for one image it is chosen where these count.
    if x.shape[0] == 1:
        out = F.linear(x, kernels.flatten(0, 1), bias)
    else:
        if kernels.requires_grad:
            kernels = _ContiguousGradient.apply(kernels)
        out = _multiply(x.flatten(1, 2), kernels.transpose(1, 2), bias)
        out = out.unflatten(1, x.shape[1:3])
    return out.permute(0, 3, 1, 2)


class _ContiguousGradient(torch.autograd.Function):
    """The identity, whose gradient is contiguous.

    The product gives the gradient of transposed kernels. PyTorch's batched product,
    which goes on to the bank and the coefficients, takes such matrices one by one,
    with copies: that was a tenth of a training step of FCN-R50.
    """

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad.contiguous()


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    return left @ right if bias is None else torch.baddbmm(bias, left, right)


_IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "grouped": _grouped,
    "loop": _loop,
    "matmul": _matmul,
}


def check_shapes(
    x: Tensor, kernels_shape: Sequence[int], bias: Tensor | None, groups: int
) -> None:
    """Raise a ValueError that names the first shape that does not fit.

    Args:
        x: Images, (B, C, H, W).
        kernels_shape: Of one kernel an image, (B, O, C/G, kH, kW).
        bias: (O,).
        groups: G.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be (B, C, H, W), got shape {tuple(x.shape)}")
    if len(kernels_shape) != 5:
        raise ValueError(
            "kernels must be (B, O, C/groups, kH, kW), got shape "
            f"{tuple(kernels_shape)}"
        )
    batch, channels = x.shape[:2]
    kernel_sets, out_channels, group_channels = kernels_shape[:3]
    if groups < 1 or out_channels % groups or channels != group_channels * groups:
        raise ValueError(
            f"groups={groups} does not fit: x has C={channels} channels, kernels take "
            f"{group_channels} channels a group and give O={out_channels}; groups must "
            f"divide O, and C must be groups * {group_channels}"
        )
    if kernel_sets != batch:
        raise ValueError(
            f"{batch} images, but kernels or coefficients for {kernel_sets}: give one "
            "set an image"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(
            f"bias must be (O,) = {(out_channels,)}, got shape {tuple(bias.shape)}"
        )


# What torch says where dtypes do not fit.
_OF_DTYPES = ("dtype", "scalar type", "Input type", "not implemented for")


def check_devices(**tensors: Tensor | None) -> None:
    """Raise a ValueError that names where each tensor is, unless all are on one device.

    Asked before: torch multiplies a tensor on "meta", which has no numbers, with one on
    a CPU, and gives numbers that mean nothing. A loop is fastest, and each call pays.

    Args:
        **tensors: The first is not None.
    """
    first, *others = tensors.values()
    for tensor in others:
        if tensor is not None and tensor.device != first.device:
            found = ", ".join(
                f"{name} {t.device}" for name, t in tensors.items() if t is not None
            )
            raise ValueError(
                f"the devices differ: {found}; move them to one, with .to(device)"
            )


def refuse_dtypes(error: RuntimeError, **tensors: Tensor | None) -> None:
    """Raise a ValueError if dtypes that differ are why torch has raised ``error``.

    Asked afterwards: autocast makes one of them, and the check costs nothing. Under
    autocast they differ in any case, so the error must speak of types, too: a GPU that
    is full is none of this.
    """
    if not any(words in str(error) for words in _OF_DTYPES):
        return
    dtypes = {name: t.dtype for name, t in tensors.items() if t is not None}
    if len({*dtypes.values()}) > 1:
        found = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise ValueError(
            f"the dtypes differ: {found}; convert them to one, or use autocast"
        ) from error


def refuse_geometry(
    error: RuntimeError,
    x: Tensor,
    kernel: Sequence[int],
    stride: IntOrPair,
    padding: IntOrPair,
    dilation: IntOrPair,
) -> None:
    """Raise a ValueError if the geometry is why torch has raised ``error``.

    Args:
        error: What torch has raised.
        x: Images, (B, C, H, W).
        kernel: (kH, kW).
        stride: In pixels, at least 1.
        padding: In pixels, at least 0.
        dilation: In pixels, at least 1.
    """
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    if min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ValueError(
            f"stride={stride} and dilation={dilation} must be at least 1, and "
            f"padding={padding} must not be negative"
        ) from error
    sides = zip(x.shape[2:], kernel, padding, dilation, strict=True)
    if any(side < 1 or side + 2 * p <= d * (k - 1) for side, k, p, d in sides):
        raise ValueError(
            f"images of {tuple(x.shape[2:])} with padding={padding} are smaller than a "
            f"kernel of {tuple(kernel)} with dilation={dilation}"
        ) from error
