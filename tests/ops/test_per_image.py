"""Every implementation is the same function, and the rule picks the one it says."""

import contextlib
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_dynet.ops import (
    IMPLEMENTATIONS,
    DyConv2d,
    conv2d_per_image,
    dynamic_conv2d_feature_fusion,
    force_implementation,
)
from mmseg_dynet.ops.implementation import choose

PER_IMAGE = ("grouped", "loop", "matmul")
FORMATS = (torch.contiguous_format, torch.channels_last)
GEOMETRIES = list(
    itertools.product(
        (1, 3),  # images
        ((1, 1), (3, 3), (1, 3), (2, 2)),  # kernel
        (1, 2, (2, 1)),  # stride
        (0, (1, 2)),  # padding
        (1, (2, 1)),  # dilation
        (1, 2, 4),  # groups of four channels
    )
)


def make_case(batch=2, channels=4, out_channels=4, kernel=(3, 3), groups=1,
              size=(6, 7), dtype=torch.float64):  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    x = draw(batch, channels, *size)
    kernels = draw(batch, out_channels, channels // groups, *kernel)
    return x, kernels, draw(out_channels)


def one_by_one(x, kernels, bias, *geometry):
    images = zip(x, kernels, strict=True)
    return torch.stack([F.conv2d(i, k, bias, *geometry) for i, k in images])


@pytest.mark.parametrize("name", PER_IMAGE)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("with_bias", (True, False))
def test_value_and_gradient_equal_one_convolution_an_image(
    name, memory_format, with_bias
):
    for batch, kernel, *geometry in GEOMETRIES:
        x, kernels, bias = make_case(batch=batch, kernel=kernel, groups=geometry[-1])
        x = x.to(memory_format=memory_format)
        inputs = (x, kernels, bias) if with_bias else (x, kernels)
        outs, grads = [], []
        for function in (conv2d_per_image, one_by_one):
            leaves = [t.detach().requires_grad_() for t in inputs]
            bias_leaf = leaves[2] if with_bias else None
            with force_implementation(name):
                out = function(leaves[0], leaves[1], bias_leaf, *geometry)
            weighting = torch.linspace(-1, 1, out.numel(), dtype=out.dtype)
            loss = (out.flatten() * weighting).sum()
            outs.append(out)
            grads.append(torch.autograd.grad(loss, leaves))
        torch.testing.assert_close(outs[0], outs[1])
        for got, expected in zip(*grads, strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", PER_IMAGE)
@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("kernel", (1, 3))
def test_channels_last_goes_through(name, batch, kernel):
    x, kernels, bias = make_case(batch=batch, kernel=(kernel, kernel))
    with force_implementation(name):
        out = conv2d_per_image(x.to(memory_format=torch.channels_last), kernels, bias)
    if name != "grouped" or batch == 1:  # whose output has the batch in the channels
        assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", PER_IMAGE)
def test_bf16_autocast(name):
    x, kernels, bias = make_case(dtype=torch.float32)
    expected = one_by_one(x, kernels, bias)
    with torch.autocast("cpu", torch.bfloat16), force_implementation(name):
        out = conv2d_per_image(x, kernels, bias)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("kernel", (1, 3))
def test_an_empty_batch_gives_an_empty_batch(kernel):
    x, kernels, bias = make_case(batch=0, kernel=(kernel, kernel))
    leaves = [t.requires_grad_() for t in (x, kernels, bias)]
    out = conv2d_per_image(*leaves)
    assert out.shape == (0, 4, 7 - kernel, 8 - kernel)
    out.sum().backward()
    assert all(leaf.grad.eq(0).all() for leaf in leaves)


def test_forced_feature_fusion_fuses_feature_maps():
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 3, num_kernels=3)
    x, coeff = torch.randn(2, 4, 6, 7), torch.rand(2, 6, 3)
    expected = dynamic_conv2d_feature_fusion(x, conv.weight, coeff, conv.bias)
    conv.fuse = conv.convolve = None  # must not be called
    with force_implementation("feature_fusion"):
        assert torch.equal(conv(x, coeff), expected)


def test_the_rule():
    def rule(batch, channels, kernel, *, side=8, groups=1, memory_format=FORMATS[0]):
        x = torch.empty(batch, channels, side, side).to(memory_format=memory_format)
        kernels = torch.empty(batch, 4, channels // groups, kernel, kernel)
        return choose(x, kernels, groups)

    last = FORMATS[1]
    assert rule(1, 4, 3) == "grouped"
    assert rule(1, 4096, 1, side=8) == "matmul"  # 2^18 values
    assert rule(1, 4097, 1, side=8) == "grouped"
    assert rule(1, 4, 1, groups=4) == "grouped"
    assert rule(3, 4, 1) == rule(3, 4, 1, memory_format=last) == "matmul"
    assert rule(3, 4, 3) == "grouped"
    assert rule(3, 4, 3, memory_format=last) == "loop"
    assert rule(3, 4, 3, groups=2, memory_format=last) == "loop"
    assert rule(0, 4, 3) == rule(0, 4, 1) == "grouped"


def test_a_forced_implementation_is_chosen_until_the_block_ends():
    x, kernels, _ = make_case()
    pointwise = kernels[..., :1, :1]
    with force_implementation("matmul"):
        with force_implementation("loop"):
            assert choose(x, kernels, 1) == choose(x, pointwise, 1) == "loop"
        assert choose(x, pointwise, 1) == "matmul"
        with pytest.raises(KeyError), force_implementation("grouped"):
            assert choose(x, pointwise, 1) == "grouped"
            raise KeyError
        assert choose(x, pointwise, 1) == "matmul"
        assert choose(x, kernels, 1) == "grouped"  # by the rule
        assert choose(x, pointwise, 4) == "grouped"
    with force_implementation("feature_fusion"):  # not for kernels that are fused
        assert choose(x, kernels, 1) == "grouped"
    assert choose(x, pointwise, 1) == "matmul"


def test_an_unknown_implementation_is_named():
    with (
        pytest.raises(ValueError, match=f"'fast': choose one of {IMPLEMENTATIONS[0]}"),
        force_implementation("fast"),
    ):
        raise AssertionError


@pytest.mark.parametrize("moved", ("x", "kernels", "bias"))
def test_tensors_on_several_devices_are_named(moved):
    names = ("x", "kernels", "bias")
    arguments = dict(zip(names, make_case(), strict=True))
    arguments[moved] = arguments[moved].to("meta")
    found = ", ".join(f"{n} {'meta' if n == moved else 'cpu'}" for n in names)
    with pytest.raises(ValueError, match=f"differ: {found}; move them to one"):
        conv2d_per_image(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.ones(4, 6, 7)), r"x must be \(B, C, H, W\)"),
        (dict(kernels=torch.ones(4, 4, 3, 3)), r"kernels must be \(B, O, C/groups"),
        (dict(kernels=torch.ones(3, 4, 4, 3, 3)), "2 images, but kernels .* for 3"),
        (dict(groups=3), "groups=3 does not fit"),
        (dict(bias=torch.ones(3)), r"bias must be \(O,\) = \(4,\)"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    x, kernels, bias = make_case(dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        conv2d_per_image(**(dict(x=x, kernels=kernels, bias=bias) | change))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("name", PER_IMAGE)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_graph_traced_with_one_image_gives_no_wrong_answer_for_two(
    kernel_size, memory_format, name
):
    """It may fail, or be right; it must not give all images the kernel of the first."""
    torch.manual_seed(0)
    layer = nn.Sequential(DyConv2d(4, 6, kernel_size), nn.BatchNorm2d(6)).eval()
    one, two = (
        torch.randn(batch, 4, 8, 8).to(memory_format=memory_format) for batch in (1, 2)
    )
    with torch.no_grad(), force_implementation(name):
        graph = torch.jit.trace(layer, one)
        torch.testing.assert_close(graph(one), layer(one))
        with contextlib.suppress(RuntimeError):
            torch.testing.assert_close(graph(two), layer(two))


@pytest.mark.parametrize("call", ["fuse", "predictor"])
@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUBLAS_STATUS_INTERNAL_ERROR when calling f(b, compute_type)"),
    ],
)
def test_what_fails_on_a_device_is_not_taken_for_a_wrong_dtype(
    call, error, monkeypatch
):
    """Under autocast dtypes differ, whatever it is that fails."""
    layer = DyConv2d(4, 6, 1)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "bmm", fail)
    monkeypatch.setattr(F, "linear", fail)
    shape = (2, 6, 6) if call == "fuse" else (2, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(type(error)) as raised:
        getattr(layer, call)(torch.rand(shape).bfloat16())
    assert raised.value is error
