"""Convolve each image of a batch with its own kernel.

There are three ways to do so, which agree in value and gradient and differ in speed:

    grouped  one convolution with B * G groups; for one image, the plain convolution
    loop     one convolution per image
    matmul   one matrix product per image, for ungrouped 1x1 kernels

The fourth of :data:`IMPLEMENTATIONS`, feature_fusion, fuses feature maps instead of
kernels; only layers in training use it by default. :func:`fuses_feature_maps` and
:func:`choose` decide; :func:`force_implementation` overrides them.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

try:
    from torch.compiler import is_compiling
except ImportError:  # torch before 2.3
    from torch._dynamo import is_compiling

IntOrPair = int | tuple[int, int]

# "feature_fusion" fuses feature maps instead of kernels, as the paper trains.
IMPLEMENTATIONS = ("grouped", "loop", "matmul", "feature_fusion")

# Up to this many input values, the fixed cost of a oneDNN call exceeds what its faster
# convolution saves over a matrix product.
_SMALL = 2**18
# From this many values on, 16 MB, fused kernels are allocated anew in each step.
_MANY = 2**22

_forced: str | None = None


def conv2d_per_image(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve image b of x (B, C, H, W) with kernel b of (B, O, C/G, kH, kW).

    Costs B * O * H' * W' * (C/G) * kH * kW MACs, as one static convolution does. The
    other arguments, and the errors, are those of
    :func:`~mmseg_dynet.ops.dynamic_conv2d`.

    Returns:
        Feature maps, (B, O, H', W').
    """
    check_arguments(x, kernels, bias, groups)
    convolve = _CONVOLVE[choose(x, kernels, groups)]
    return convolve(x, kernels, bias, stride, padding, dilation, groups)


def choose(x: Tensor, kernels: Tensor, groups: int) -> str:
    """Name the way to convolve images (B, C, H, W) with (B, O, C/G, kH, kW).

    The rule follows measurements on CPUs, forward and backward, with
    ``benchmarks/implementations.py``. It has not been measured on GPUs
    (``benchmarks/gpu.sh`` would), where it aims at few kernel launches.
    """
    pointwise = groups == 1 and kernels.shape[3:] == (1, 1)
    if _forced in ("grouped", "loop") or (_forced == "matmul" and pointwise):
        return _forced
    one = x.shape[0] < 2  # not len(), which fixes the size in a graph
    # A compiled, exported or traced graph may be used for other sizes than x's.
    graph = is_compiling() or torch.jit.is_tracing()
    on_cpu = x.device.type == "cpu" and not graph
    if one:
        is_small = pointwise and on_cpu and 0 < x.numel() <= _SMALL
        return "matmul" if is_small else "grouped"
    if pointwise:
        return "matmul"
    # "grouped" merges batch and channels: in channels_last, this takes a copy.
    if on_cpu and x.is_contiguous(memory_format=torch.channels_last):
        return "loop"
    return "grouped"


@contextmanager
def force_implementation(name: str) -> Iterator[None]:
    """Make every dynamic convolution inside the block use one implementation.

    ``name`` is one of :data:`IMPLEMENTATIONS`. "matmul" applies to ungrouped 1x1
    kernels only; all others still follow :func:`choose`. "feature_fusion" applies to
    layers with a float bank; the functions still fuse kernels. The choice holds for the
    whole process, threads included. Where blocks are recomputed in the backward pass
    (``with_cp``), that must run inside the ``with`` block as well.
    """
    global _forced
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"no implementation {name!r}: choose one of {', '.join(IMPLEMENTATIONS)}"
        )
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def fuses_feature_maps(
    x: Tensor, coeff: Tensor, bank_shape: torch.Size, stride: IntOrPair
) -> bool:
    """Whether to fuse feature maps (eq. 2) instead of kernels (eq. 1).

    In training, autograd keeps one fused kernel per image. For large batches of small
    images, they are most of the memory of a step, and allocating it takes longer than
    K times the MACs (``benchmarks/implementations.py`` times both ways). So eager
    training fuses the feature maps of layers where these are small. Graphs never do,
    since they may run on other sizes. Not measured on GPUs.
    """
    if _forced is not None:
        return _forced == "feature_fusion"
    if is_compiling() or torch.jit.is_tracing() or not coeff.requires_grad:
        return False
    kernels = x.shape[0] * bank_shape[0] * bank_shape[2:].numel()  # values
    return kernels >= _MANY and maps_are_small(x, bank_shape, stride)


def maps_are_small(x: Tensor, bank_shape: torch.Size, stride: IntOrPair) -> bool:
    """Whether the K maps of a channel have at most a quarter of its kernel's values.

    False for grouped convolutions.
    """
    step_h, step_w = _pair(stride)
    maps = bank_shape[1] * x.shape[2:].numel()  # at stride 1
    small = 4 * maps <= bank_shape[2:].numel() * step_h * step_w
    return small and x.shape[1:2] == bank_shape[2:3]


def check_arguments(
    x: Tensor, kernels: Tensor, bias: Tensor | None, groups: int
) -> None:
    """Raise a ValueError unless the shapes fit together.

    PyTorch itself reports dtypes, geometry and, except "meta", devices.
    """
    if x.ndim != 4 or kernels.ndim != 5:
        raise ValueError(
            "x must be (B, C, H, W) and kernels (B, O, C/groups, kH, kW), got shapes "
            f"{tuple(x.shape)} and {tuple(kernels.shape)}"
        )
    batch, channels = x.shape[:2]
    kernel_sets, out_channels, group_channels = kernels.shape[:3]
    if groups < 1 or out_channels % groups or channels != group_channels * groups:
        raise ValueError(
            f"groups={groups} must divide O={out_channels}, and C={channels} must be "
            f"groups * {group_channels}, the input channels of a kernel"
        )
    if kernel_sets != batch:
        raise ValueError(
            f"{batch} images, but kernels or coefficients for {kernel_sets}: give one "
            "set per image"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(
            f"bias must be (O,) = {(out_channels,)}, got shape {tuple(bias.shape)}"
        )
    check_meta(x, kernels, bias)


def check_meta(first: Tensor, *others: Tensor | None) -> None:
    """Raise a ValueError if some tensors are on the meta device and others are not.

    PyTorch silently multiplies such tensors, and may return uninitialised memory.
    """
    for other in others:
        if other is not None and other.is_meta != first.is_meta:
            raise ValueError(
                f"tensors are on {first.device} and on {other.device}: move the model "
                "and its inputs to one device"
            )


def _grouped(x: Tensor, kernels: Tensor, bias: Tensor | None, *geometry) -> Tensor:
    batch, channels, height, width = x.shape
    if batch < 2:  # reshaped, x would lose the strides that mark it as channels_last
        # Not kernels[0]: a graph traced with one image would silently convolve every
        # image of a larger batch with the kernel of the first. This way it fails.
        # Not flattened: with one output channel that changes the strides, and the
        # backward pass of a channels_last convolution fails.
        kernel = kernels.squeeze(0) if batch else kernels.sum(0)
        return F.conv2d(x, kernel, bias, *geometry)
    *geometry, groups = geometry
    # (B, C, H, W) -> (1, B*C, H, W): image b owns the channels b*C .. (b+1)*C
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        kernels.flatten(0, 1),
        None if bias is None else bias.repeat(batch),
        *geometry,
        batch * groups,
    )
    return out.reshape(batch, kernels.shape[1], *out.shape[2:])


def _loop(x: Tensor, kernels: Tensor, bias: Tensor | None, *geometry) -> Tensor:
    if not x.shape[0]:  # split would give one chunk, and unbind no kernel for it
        return _grouped(x, kernels, bias, *geometry)
    # Split, not indexed: the backward pass of an index fills a whole batch with zeros.
    images = zip(x.split(1), kernels.unbind(), strict=True)
    return torch.cat([F.conv2d(i, k, bias, *geometry) for i, k in images])


def _matmul(x: Tensor, kernels: Tensor, bias: Tensor | None, *geometry) -> Tensor:
    """Multiply the pixels by kernels (B, O, C, 1, 1); ungrouped."""
    stride, padding, *_ = geometry
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    (pad_h, pad_w), (step_h, step_w) = _pair(padding), _pair(stride)
    if pad_h or pad_w:
        if min(pad_h, pad_w) < 0:  # F.pad would crop
            raise ValueError(f"padding={padding} must not be negative")
        x = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    if (step_h, step_w) != (1, 1):
        x = x[:, :, ::step_h, ::step_w]
    kernels = kernels.flatten(2)  # (B, O, C)
    if not channels_last:
        column = None if bias is None else bias[:, None]
        return _multiply(kernels, x.flatten(2), column).unflatten(2, x.shape[2:])
    x = x.permute(0, 2, 3, 1)
    # In as few calls as possible: one image is computed here only if it is small.
    if x.shape[0] == 1:
        out = F.linear(x, kernels.flatten(0, 1), bias)
    else:
        if kernels.requires_grad and not is_compiling():
            kernels.register_hook(_make_contiguous)
        out = _multiply(x.flatten(1, 2), kernels.transpose(1, 2), bias)
        out = out.unflatten(1, x.shape[1:3])
    return out.permute(0, 3, 1, 2)


def _make_contiguous(grad: Tensor | None) -> Tensor | None:
    """Copy a gradient that comes transposed out of the product.

    In the backward pass of the fusion, PyTorch's batched product would multiply such
    matrices one by one, with copies: a large share of a training step.
    """
    return None if grad is None else grad.contiguous()


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    return left @ right if bias is None else torch.baddbmm(bias, left, right)


_CONVOLVE: dict[str, Callable[..., Tensor]] = {
    "grouped": _grouped,
    "loop": _loop,
    "matmul": _matmul,
}
