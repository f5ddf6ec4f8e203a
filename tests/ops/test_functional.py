"""The three implementations of dynamic convolution are one function.

The oracle is the per-image loop; that loop is itself held to a hand-computed example.
"""

import pytest
import torch

from mmseg_dynet.ops import (
    dynamic_conv2d,
    dynamic_conv2d_feature_fusion,
    dynamic_conv2d_reference,
)
from mmseg_dynet.ops.per_image import maps_are_small

FAST = (dynamic_conv2d, dynamic_conv2d_feature_fusion)
# Each kernel meets each stride, padding and dilation, and each number of groups.
GEOMETRIES = [
    # kernel, stride, padding, dilation, groups (4 of 4 channels: depthwise)
    ((1, 1), 1, 0, 1, 1),
    ((1, 1), 2, 1, 1, 2),
    ((1, 1), 1, 1, 2, 4),
    ((3, 3), 1, 0, 1, 2),
    ((3, 3), 2, 1, 1, 4),
    ((3, 3), 1, 1, 2, 1),
    ((1, 3), 1, 0, 1, 4),
    ((1, 3), 2, 1, 1, 1),
    ((1, 3), 1, 1, 2, 2),
    ((1, 3), (2, 1), (0, 1), (1, 2), 1),
]


def make_case(batch=2, channels=4, out_channels=4, num_kernels=3, kernel=(3, 3),
              groups=1, size=(6, 7), dtype=torch.float64):  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    x = draw(batch, channels, *size)
    weight = draw(out_channels, num_kernels, channels // groups, *kernel)
    coeff = draw(batch, out_channels, num_kernels).sigmoid()
    return x, weight, coeff, draw(out_channels)


def test_reference_equals_a_hand_computed_example():
    # Two images of one pixel, two input channels, one output channel, two kernels.
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    weight = torch.tensor([[10.0, 1.0], [-2.0, 5.0]]).reshape(1, 2, 2, 1, 1)
    coeff = torch.tensor([[0.5, 1.0], [1.0, 0.25]]).reshape(2, 1, 2)
    # Image 0: kernel 0.5*(10, 1) + (-2, 5) = (3, 5.5); 3*1 + 5.5*2 = 14.
    # Image 1: kernel (10, 1) + 0.25*(-2, 5) = (9.5, 2.25); 9.5*3 + 2.25*4 = 37.5.
    expected = torch.tensor([14.0, 37.5]).reshape(2, 1, 1, 1)
    out = dynamic_conv2d_reference(x, weight, coeff, bias=torch.tensor([100.0]))
    torch.testing.assert_close(out, expected + 100)


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("has_bias", (True, False))
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_value_and_gradient_equal_the_reference(
    function, batch, has_bias, geometry, device
):
    kernel, *steps, groups = geometry
    *inputs, bias = make_case(batch=batch, kernel=kernel, groups=groups)
    inputs += [bias] if has_bias else []
    outs, grads = [], []
    for f, where in ((function, device), (dynamic_conv2d_reference, "cpu")):
        leaves = [t.to(where, copy=True).requires_grad_() for t in inputs]
        out = f(*leaves, *[None] * (4 - len(leaves)), *steps, groups)
        outs.append(out.cpu())
        # A fixed, uneven weighting, so that no gradient is trivially constant.
        weighting = torch.linspace(-1, 1, out.numel()).to(out)
        gradients = torch.autograd.grad((out.flatten() * weighting).sum(), leaves)
        grads.append([gradient.cpu() for gradient in gradients])
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    ("kernel", "size", "stride", "padding", "dilation"),
    [
        ((3, 3), (2, 2), 1, 1, 1),
        ((3, 3), (4, 3), 2, 1, 1),
        ((1, 3), (2, 3), (1, 2), (0, 1), (2, 1)),
        ((3, 3), (1, 2), 1, 2, 2),
        ((1, 1), (2, 1), 1, 0, 1),
        ((1, 1), (3, 4), 2, 1, 1),
    ],
)
@pytest.mark.parametrize("memory_format", (torch.contiguous_format,
                                           torch.channels_last))  # fmt: skip
def test_small_feature_maps_are_products_with_the_same_value_and_gradient(
    kernel, size, stride, padding, dilation, memory_format, device
):
    inputs = make_case(batch=3, channels=48, num_kernels=2, kernel=kernel, size=size)
    x, weight, coeff, bias = inputs
    assert maps_are_small(x, weight.shape, stride)
    weight = weight.flatten(0, 1).to(memory_format=memory_format)
    weight = weight.unflatten(0, inputs[1].shape[:2])
    inputs = x.to(memory_format=memory_format), weight, coeff, bias
    outs, grads = [], []
    for function, where in (
        (dynamic_conv2d_feature_fusion, device),
        (dynamic_conv2d_reference, "cpu"),
    ):
        leaves = [t.to(where, copy=True).requires_grad_() for t in inputs]
        outs.append(function(*leaves, stride, padding, dilation).cpu())
        gradients = torch.autograd.grad(outs[-1].square().sum(), leaves)
        grads.append([gradient.cpu() for gradient in gradients])
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize(
    ("batch", "size"),
    [(1, (6, 7)), (3, (6, 7)), (3, (1, 1))],  # the last: a product
)
def test_autocast(function, batch, size, device, autocast_type):
    case = make_case(batch=batch, size=size, num_kernels=2, dtype=torch.float32)
    expected = dynamic_conv2d_reference(*case, padding=1)
    with torch.autocast(device, autocast_type):
        got = function(*(tensor.to(device) for tensor in case), padding=1)
    assert got.dtype == autocast_type
    # bf16 keeps 8 bits; outputs are sums of 36 products of magnitude about 1.
    torch.testing.assert_close(got.float().cpu(), expected, rtol=0.02, atol=0.1)
