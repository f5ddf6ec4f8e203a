"""Dynamic convolution as functions of tensors.

Shape legend, used by every docstring of :mod:`mmseg_dynet.ops`:

    B       images in the batch
    C, O    input and output channels
    G       groups of a grouped convolution
    K       fixed kernels per output channel (the paper's g_t)
    kH, kW  kernel height and width
    H, W    input height and width;  H', W' those of the output

A layer owns a *bank* of fixed kernels, ``weight`` (O, K, C/G, kH, kW). For each
image it receives *coefficients*, ``coeff`` (B, O, K), and convolves the image with
the dynamic kernel

    w~[b, o] = sum_k coeff[b, o, k] * weight[o, k]           (DyNet, eq. 1)

The same output is a weighted sum of the K static feature maps (eq. 2), since
convolution is linear. :func:`dynamic_conv2d` computes eq. 1 and is the one to use;
:func:`dynamic_conv2d_feature_fusion` computes eq. 2, which the paper trains with and
which costs K convolutions; tests compare both to :func:`dynamic_conv2d_reference`.

Source: "DyNet: Dynamic Convolution for Accelerating Convolutional Neural Networks",
arXiv 2004.10694, section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from .per_image import (
    IntOrPair,
    check_arguments,
    check_meta,
    conv2d_per_image,
    maps_are_small,
)


def fuse_kernels(weight: Tensor, coeff: Tensor) -> Tensor:
    """Fuse the bank into one dynamic kernel per image (DyNet, eq. 1).

    Written as one batched matrix product, so that it reads the bank once for the whole
    batch and every FLOP counter sees its cost: B * O * K * (C/G) * kH * kW MACs.

    Args:
        weight: Bank of fixed kernels, (O, K, C/G, kH, kW).
        coeff: Coefficients, (B, O, K).

    Returns:
        Dynamic kernels, (B, O, C/G, kH, kW), in the bank's memory format: if each
        kernel of the bank is channels_last, so is the dynamic kernel of one image.
        (Those of several images are interleaved, channel by channel.)

    Raises:
        ValueError: The shapes do not fit together.
    """
    _check_bank(weight, coeff)
    channels_last = not weight.is_contiguous()
    if channels_last:
        weight = weight.permute(0, 1, 3, 4, 2)
    # (O, B, K) @ (O, K, C/G*kH*kW) -> (O, B, C/G*kH*kW)
    fused = torch.bmm(coeff.transpose(0, 1), weight.flatten(2))
    kernels = fused.transpose(0, 1).unflatten(2, weight.shape[2:])
    return kernels.permute(0, 1, 4, 2, 3) if channels_last else kernels


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
    """Fuse one kernel per image, and convolve each image with its own.

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
        ValueError: Shapes do not fit. PyTorch reports devices, dtypes and geometry.
    """
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
    pass. A :class:`~mmseg_dynet.ops.DyConv2d` does it in eager training, for large
    batches, where these are much smaller than fused kernels. Arguments, result and
    errors are those of :func:`dynamic_conv2d`, but a bias of another dtype is cast.
    """
    _check_all(x, weight, coeff, bias, groups)
    if not x.is_cuda and maps_are_small(x, weight.shape, stride):
        out = _sum_products(x, weight, coeff, stride, padding, dilation)
    else:
        # Output channel o*K + k is kernel k of channel o: groups stay together.
        bank = weight.flatten(0, 1)
        maps = F.conv2d(x, bank, None, stride, padding, dilation, groups)
        maps = maps.unflatten(1, weight.shape[:2])  # (B, O, K, H', W')
        out = torch.einsum("bokhw,bok->bohw", maps, coeff)
    # Under autocast the bias would turn the output back into float32.
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def _sum_products(x: Tensor, weight: Tensor, coeff: Tensor, *geometry) -> Tensor:
    """Fuse feature maps; each is a product of the bank with the windows of all images.

    Faster for maps of a few pixels, mostly padding, on CPUs; CUDA unfolds one by one.
    """
    stride, padding, dilation = map(_pair, geometry)
    side = weight.shape[3]
    windows = F.unfold(x, weight.shape[3:], dilation, padding, stride)  # (B, N, H'W')
    if not weight.is_contiguous():  # channels_last: order windows alike, (kH, kW, C)
        windows = windows.unflatten(1, (x.shape[1], -1)).transpose(1, 2).flatten(1, 2)
        weight = weight.permute(0, 1, 3, 4, 2)
    maps = F.linear(windows.transpose(1, 2), weight.flatten(2).flatten(0, 1))
    maps = maps.unflatten(2, weight.shape[:2])  # (B, H'W', O, K)
    # Under autocast a sum would be float32.
    out = (maps * coeff[:, None].to(maps.dtype)).sum(3, dtype=maps.dtype)
    room = x.shape[2] + 2 * padding[0] - dilation[0] * (side - 1) - 1
    return out.unflatten(1, (room // stride[0] + 1, -1)).permute(0, 3, 1, 2)


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
    """Compute eq. 1 as it is written, image by image: a slow and obvious reference.

    Arguments, result and errors are those of :func:`dynamic_conv2d`; B is at least 1.
    """
    _check_all(x, weight, coeff, bias, groups)
    outs = []
    for image, eta in zip(x, coeff, strict=True):
        kernel = (eta[:, :, None, None, None] * weight).sum(dim=1)
        outs.append(F.conv2d(image, kernel, bias, stride, padding, dilation, groups))
    return torch.stack(outs)


def check_coefficients(coeff: Tensor, out_channels: int, num_kernels: int) -> None:
    """Raise a ValueError unless coefficients are (B, O, K)."""
    if coeff.ndim != 3 or coeff.shape[1:] != (out_channels, num_kernels):
        raise ValueError(
            f"coeff must be (B, O, K) = (B, {out_channels}, {num_kernels}), got shape "
            f"{tuple(coeff.shape)}"
        )


def _check_bank(weight: Tensor, coeff: Tensor) -> None:
    if weight.ndim != 5:
        raise ValueError(
            f"weight must be (O, K, C/groups, kH, kW), got shape {tuple(weight.shape)}"
        )
    check_coefficients(coeff, *weight.shape[:2])
    check_meta(weight, coeff)


def _check_all(
    x: Tensor, weight: Tensor, coeff: Tensor, bias: Tensor | None, groups: int
) -> None:
    _check_bank(weight, coeff)
    kernels = weight[:, 0].expand(len(coeff), -1, -1, -1, -1)  # of the fused shape
    check_arguments(x, kernels, bias, groups)
