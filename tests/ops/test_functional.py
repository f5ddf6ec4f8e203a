"""The three implementations of dynamic convolution are one function.

The oracle is the per-image loop; that loop is itself held to a hand-computed example.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mmseg_dynet.ops import (
    dynamic_conv2d,
    dynamic_conv2d_feature_fusion,
    dynamic_conv2d_reference,
    fuse_kernels,
)

FAST = (dynamic_conv2d, dynamic_conv2d_feature_fusion)
KERNEL_SIZES = ((1, 1), (3, 3), (1, 3))
GROUPS = (1, 2, 4)  # 4 of 4 channels: depthwise
GEOMETRIES = [
    pytest.param(batch, kernel, stride, padding, dilation, groups)
    for batch, kernel, stride, padding, dilation, groups in itertools.product(
        (1, 3), KERNEL_SIZES, (1, 2), (0, 1), (1, 2), GROUPS
    )
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


def test_fused_kernel_is_the_weighted_sum_of_the_bank():
    _, weight, coeff, _ = make_case()
    expected = torch.einsum("bok,okihw->boihw", coeff, weight)
    torch.testing.assert_close(fuse_kernels(weight, coeff), expected)


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize(
    ("batch", "kernel", "stride", "padding", "dilation", "groups"), GEOMETRIES
)
def test_value_and_gradient_equal_the_reference(
    function, batch, kernel, stride, padding, dilation, groups
):
    inputs = make_case(batch=batch, kernel=kernel, groups=groups)
    geometry = (stride, padding, dilation, groups)
    outs, grads = [], []
    for f in (function, dynamic_conv2d_reference):
        leaves = [t.clone().requires_grad_() for t in inputs]
        out = f(*leaves, *geometry)
        outs.append(out)
        # A fixed, uneven weighting, so that no gradient is trivially constant.
        weighting = torch.linspace(-1, 1, out.numel(), dtype=out.dtype)
        grads.append(torch.autograd.grad((out.flatten() * weighting).sum(), leaves))
    torch.testing.assert_close(outs[0], outs[1])
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("function", (*FAST, dynamic_conv2d_reference))
@pytest.mark.parametrize(
    ("batch", "kernel", "stride", "padding", "dilation", "groups"), GEOMETRIES
)
def test_gradcheck(function, batch, kernel, stride, padding, dilation, groups):
    x, weight, coeff, bias = make_case(
        batch=batch, kernel=kernel, groups=groups, num_kernels=2, size=(5, 5)
    )
    leaves = [t.requires_grad_() for t in (x, weight, coeff, bias)]
    assert torch.autograd.gradcheck(
        lambda *t: function(*t, stride, padding, dilation, groups), leaves,
        fast_mode=True,
    )  # fmt: skip


@pytest.mark.parametrize("function", FAST)
def test_without_bias_and_with_pairs(function):
    x, weight, coeff, _ = make_case(kernel=(1, 3))
    geometry = dict(stride=(2, 1), padding=(0, 1), dilation=(1, 2))
    torch.testing.assert_close(
        function(x, weight, coeff, **geometry),
        dynamic_conv2d_reference(x, weight, coeff, **geometry),
    )


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize("groups", GROUPS)
def test_row_of_a_batch_equals_that_image_alone(function, groups):
    x, weight, coeff, bias = make_case(batch=3, groups=groups)
    together = function(x, weight, coeff, bias, padding=1, groups=groups)
    for i in range(3):
        alone = function(
            x[i : i + 1], weight, coeff[i : i + 1], bias, padding=1, groups=groups
        )
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize("batch", (1, 3))
def test_channels_last(function, batch):
    x, weight, coeff, bias = make_case(batch=batch, dtype=torch.float32)
    expected = dynamic_conv2d_reference(x, weight, coeff, bias, padding=1)
    got = function(
        x.to(memory_format=torch.channels_last), weight, coeff, bias, padding=1
    )
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize("batch", (1, 3))
def test_bf16_autocast(function, batch):
    x, weight, coeff, bias = make_case(batch=batch, dtype=torch.float32)
    expected = dynamic_conv2d_reference(x, weight, coeff, bias, padding=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = function(x, weight, coeff, bias, padding=1)
    assert got.dtype == torch.bfloat16
    # bf16 keeps 8 bits; outputs are sums of 36 products of magnitude about 1.
    torch.testing.assert_close(got.float(), expected, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("function", (*FAST, dynamic_conv2d_reference))
def test_one_kernel_with_coefficient_one_is_the_static_convolution(function):
    x, weight, _, bias = make_case(num_kernels=1)
    ones = torch.ones(2, 4, 1, dtype=x.dtype)
    torch.testing.assert_close(
        function(x, weight, ones, bias, padding=1),
        F.conv2d(x, weight[:, 0], bias, padding=1),
    )


@pytest.mark.parametrize("function", (*FAST, dynamic_conv2d_reference))
@pytest.mark.parametrize("moved", ("x", "weight", "coeff", "bias"))
def test_tensors_on_several_devices_are_named(function, moved):
    names = ("x", "weight", "coeff", "bias")
    arguments = dict(zip(names, make_case(), strict=True))
    arguments[moved] = arguments[moved].to("meta")
    found = ", ".join(f"{n} {'meta' if n == moved else 'cpu'}" for n in names)
    with pytest.raises(ValueError, match=f"differ: {found}; move them to one"):
        function(**arguments)


@pytest.mark.parametrize("function", (*FAST, dynamic_conv2d_reference))
def test_tensors_may_all_be_on_another_device(function):
    out = function(*(tensor.to("meta") for tensor in make_case()))
    assert (out.device.type, out.shape) == ("meta", (2, 4, 4, 5))


def test_a_bank_on_another_device_than_its_coefficients_is_named():
    _, weight, coeff, _ = make_case()
    with pytest.raises(ValueError, match="differ: weight meta, coeff cpu; move"):
        fuse_kernels(weight.to("meta"), coeff)


@pytest.mark.parametrize("function", (*FAST, dynamic_conv2d_reference))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.ones(4, 6, 7)), r"x must be \(B, C, H, W\), got.*\(4, 6, 7\)"),
        (
            dict(weight=torch.ones(4, 4, 3, 3)),
            r"weight must be \(O, K, C/groups, kH, kW\), got.*\(4, 4, 3, 3\)",
        ),
        (dict(groups=3), r"groups=3 does not fit: x has C=4 .* O=4"),
        (dict(groups=0), r"groups=0 does not fit"),
        (dict(x=torch.ones(2, 5, 6, 7)), r"groups=1 does not fit: x has C=5"),
        (dict(coeff=torch.ones(1, 4, 3)), "2 images, but .* coefficients for 1"),
        (dict(coeff=torch.ones(2, 12)), r"= \(B, 4, 3\), got shape \(2, 12\)"),
        (dict(bias=torch.ones(3)), r"bias must be \(O,\) = \(4,\), got shape \(3,\)"),
    ],
)
def test_wrong_shapes_are_named(function, change, message):
    x, weight, coeff, bias = make_case(dtype=torch.float32)
    arguments = dict(x=x, weight=weight, coeff=coeff, bias=bias) | change
    with pytest.raises(ValueError, match=message):
        function(**arguments)
