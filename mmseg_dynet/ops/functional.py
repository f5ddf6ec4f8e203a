"""Dynamic convolution as functions of tensors.

Shape legend, used by every docstring of :mod:`mmseg_dynet.ops`:

    B       images in the batch
    C, O    input and output channels
    G       groups of a grouped convolution
    K       fixed kernels an output channel owns (the paper's g_t)
    kH, kW  kernel height and width
    H, W    input height and width;  H', W' those of the output

A layer owns a *bank* of fixed kernels, ``weight`` (O, K, C/G, kH, kW). For each
image it receives *coefficients*, ``coeff`` (B, O, K), and convolves the image with
the dynamic kernel

    w~[b, o] = sum_k coeff[b, o, k] * weight[o, k]           (DyNet, eq. 1)

The same output is a weighted sum of the K static feature maps (eq. 2), since
convolution is linear. :func:`dynamic_conv2d` computes eq. 1 and is the one to use;
:func:`dynamic_conv2d_feature_fusion` computes eq. 2, which the paper trains with and
which costs K convolutions; :func:`dynamic_conv2d_reference` is the obvious loop that
both are tested against.

Source: "DyNet: Dynamic Convolution for Accelerating Convolutional Neural Networks",
arXiv 2004.10694, section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .per_image import (
    IntOrPair,
    check_devices,
    check_shapes,
    conv2d_per_image,
    refuse_dtypes,
    refuse_geometry,
)


def fuse_kernels(weight: Tensor, coeff: Tensor) -> Tensor:
    """Fuse the bank into one dynamic kernel an image (DyNet, eq. 1).

    Written as one batched matrix product, so that it reads the bank once for the whole
    batch and every FLOP counter sees its cost: B * O * K * (C/G) * kH * kW MACs.

    Args:
        weight: Bank of fixed kernels, (O, K, C/G, kH, kW).
        coeff: Coefficients, (B, O, K).

    Returns:
        Dynamic kernels, (B, O, C/G, kH, kW), in the bank's memory format: if each
        kernel of the bank is channels_last, so is the dynamic kernel of one image.
        (Those of several images lie interleaved, channel by channel.)

    Raises:
        ValueError: The shapes, dtypes or devices do not fit together.
    """
    check_devices(weight=weight, coeff=coeff)
    _check_bank(weight, coeff)
    try:
        if weight.is_contiguous():
            return _fuse_contiguous(weight, coeff)
        kernels = _fuse_contiguous(weight.permute(0, 1, 3, 4, 2), coeff)
        return kernels.permute(0, 1, 4, 2, 3)
    except RuntimeError as error:
        refuse_dtypes(error, weight=weight, coeff=coeff)
        raise


def _fuse_contiguous(weight: Tensor, coeff: Tensor) -> Tensor:
    # (O, B, K) @ (O, K, C/G*kH*kW) -> (O, B, C/G*kH*kW)
    fused = torch.bmm(coeff.transpose(0, 1), weight.flatten(2))
    return fused.transpose(0, 1).unflatten(2, weight.shape[2:])


def dynamic_conv2d(
    x: Tensor,
    weight: Tensor,
    coeff: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """Fuse a kernel for each image of a batch, and convolve the image with it.

    Kernels are fused (eq. 1) for any batch size, in training and inference. The cost is
    that of one static convolution, B * O * H' * W' * (C/G) * kH * kW MACs, plus the
    fusion (:func:`fuse_kernels`).

    Args:
        x: Images, (B, C, H, W).
        weight: Bank of fixed kernels, (O, K, C/G, kH, kW).
        coeff: Coefficients, (B, O, K).
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
    check_devices(x=x, weight=weight, coeff=coeff, bias=bias)
    kernels = fuse_kernels(weight, coeff)
    return conv2d_per_image(x, kernels, bias, stride, padding, dilation, groups)


def dynamic_conv2d_feature_fusion(
    x: Tensor,
    weight: Tensor,
    coeff: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """Weighted sum of K static feature maps (DyNet, eq. 2).

    How the paper trains: the kernels stay static, so a batch is one convolution, but a
    K times wider one. Costs K times the MACs of :func:`dynamic_conv2d`'s convolution,
    plus B * O * K * H' * W' for the sum, and keeps K feature maps for the backward
    pass. Kept as the published alternative and as a second oracle. Arguments, result
    and errors are those of :func:`dynamic_conv2d`, but that a bias of another dtype is
    converted.
    """
    check_devices(x=x, weight=weight, coeff=coeff, bias=bias)
    _check_bank(weight, coeff)
    out_channels, num_kernels = weight.shape[:2]
    check_shapes(x, (coeff.shape[0], out_channels, *weight.shape[2:]), bias, groups)
    # Output channel o*K + k of the wide convolution is kernel k of channel o, which
    # keeps the channels of a group together.
    bank = weight.flatten(0, 1)
    try:
        maps = F.conv2d(x, bank, None, stride, padding, dilation, groups)
        maps = maps.unflatten(1, (out_channels, num_kernels))  # (B, O, K, H', W')
        out = torch.einsum("bokhw,bok->bohw", maps, coeff)
    except RuntimeError as error:
        refuse_dtypes(error, x=x, weight=weight, coeff=coeff)
        refuse_geometry(error, x, weight.shape[3:], stride, padding, dilation)
        raise
    # Under autocast the bias would turn the output back into float32.
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def dynamic_conv2d_reference(
    x: Tensor,
    weight: Tensor,
    coeff: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """Image by image, eq. 1 as it is written: slow, obvious, and the oracle.

    Arguments and result are those of :func:`dynamic_conv2d`, of one image at least.

    Raises:
        ValueError: The shapes or devices do not fit together. What else does not is
            PyTorch's RuntimeError.
    """
    check_devices(x=x, weight=weight, coeff=coeff, bias=bias)
    _check_bank(weight, coeff)
    check_shapes(x, (len(coeff), len(weight), *weight.shape[2:]), bias, groups)
    outs = []
    for image, eta in zip(x, coeff, strict=True):
        kernel = (eta[:, :, None, None, None] * weight).sum(dim=1)
        outs.append(F.conv2d(image, kernel, bias, stride, padding, dilation, groups))
    return torch.stack(outs)


def _check_bank(weight: Tensor, coeff: Tensor) -> None:
    """Raise a ValueError that names the shape that does not fit."""
    if weight.ndim != 5:
        raise ValueError(
            f"weight must be (O, K, C/groups, kH, kW), got shape {tuple(weight.shape)}"
        )
    check_coefficients(coeff, *weight.shape[:2])


def check_coefficients(coeff: Tensor, out_channels: int, num_kernels: int) -> None:
    """Raise a ValueError unless coefficients are (B, O, K)."""
    if coeff.ndim != 3 or coeff.shape[1:] != (out_channels, num_kernels):
        raise ValueError(
            f"coeff must be (B, O, K) = (B, {out_channels}, {num_kernels}), got shape "
            f"{tuple(coeff.shape)}"
        )
