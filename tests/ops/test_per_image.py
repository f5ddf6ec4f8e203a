"""The three ways are one function, and the rule picks the one it promises."""

import contextlib

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
from mmseg_dynet.ops.per_image import choose, fuses_feature_maps

# "matmul" is for kernels of 1x1; others fall back to the rule.
WAYS = [("grouped", 3), ("grouped", 1), ("loop", 3), ("loop", 1), ("matmul", 1)]
ways = pytest.mark.parametrize(("name", "kernel"), WAYS)
FORMATS = (torch.contiguous_format, torch.channels_last)
# Kernel, stride, padding, dilation and groups of four channels.
GEOMETRIES = [
    ((1, 1), 1, 0, 1, 1),
    ((1, 1), (2, 1), (1, 2), 1, 1),
    ((1, 1), 2, 0, 1, 4),
    ((3, 3), 1, 1, 1, 1),
    ((3, 3), (2, 1), (1, 2), (2, 1), 2),
    ((1, 3), 2, (1, 2), (2, 1), 4),
    ((2, 2), 1, 0, 2, 1),
]


def make_case(batch=2, kernel=(3, 3), groups=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return draw(batch, 4, 6, 7), draw(batch, 4, 4 // groups, *kernel), draw(4)


def one_by_one(x, kernels, bias, *geometry):
    images = zip(x, kernels, strict=True)
    return torch.stack([F.conv2d(i, k, bias, *geometry) for i, k in images])


@pytest.mark.parametrize(
    ("name", "kernel", "stride", "padding", "dilation", "groups"),
    [(name, *geometry) for name in ("grouped", "loop") for geometry in GEOMETRIES]
    + [("matmul", *geometry) for geometry in GEOMETRIES[:2]],
)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", (1, 3))
def test_value_and_gradient_equal_one_convolution_per_image(
    name, memory_format, batch, kernel, stride, padding, dilation, groups, device
):
    x, kernels, bias = (t.to(device) for t in make_case(batch, kernel, groups))
    x = x.to(memory_format=memory_format)
    geometry = (stride, padding, dilation, groups)
    for inputs in ((x, kernels, bias), (x, kernels)):
        outs, grads = [], []
        for function in (conv2d_per_image, one_by_one):
            leaves = [t.detach().requires_grad_() for t in inputs]
            with force_implementation(name):
                out = function(*leaves, *[None] * (3 - len(leaves)), *geometry)
            weighting = torch.linspace(-1, 1, out.numel()).to(out)
            outs.append(out)
            grads.append(torch.autograd.grad((out.flatten() * weighting).sum(), leaves))
        torch.testing.assert_close(*outs)
        torch.testing.assert_close(*grads)


@ways
@pytest.mark.parametrize("batch", (1, 3))
def test_channels_last_is_kept(name, batch, kernel):
    x, kernels, bias = make_case(batch, (kernel, kernel))
    with force_implementation(name):
        out = conv2d_per_image(x.to(memory_format=torch.channels_last), kernels, bias)
    is_kept = name != "grouped" or batch == 1  # it has the batch in the channels
    assert out.is_contiguous(memory_format=torch.channels_last) == is_kept


@ways
def test_autocast(name, kernel, device, autocast_type):
    case = make_case(kernel=(kernel, kernel), dtype=torch.float32)
    expected = one_by_one(*case)
    x, kernels, bias = (t.to(device) for t in case)
    with torch.autocast(device, autocast_type), force_implementation(name):
        out = conv2d_per_image(x, kernels, bias)
    assert out.dtype == autocast_type
    torch.testing.assert_close(out.float().cpu(), expected, rtol=0.02, atol=0.1)


@ways
@pytest.mark.parametrize("memory_format", FORMATS)
def test_transforms_of_torch_func_equal_autograd(name, memory_format, kernel):
    x, kernels, bias = make_case(kernel=(kernel, kernel))
    x = x.to(memory_format=memory_format)

    def loss(kernels):
        return conv2d_per_image(x, kernels, bias).square().sum()

    leaf = kernels.clone().requires_grad_()
    with force_implementation(name):
        (expected,) = torch.autograd.grad(loss(leaf), leaf)
        for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
            torch.testing.assert_close(transform(loss)(kernels), expected)
        assert torch.autograd.gradgradcheck(loss, leaf)


@pytest.mark.recent_torch
def test_compiled_gradients_equal_eager_ones(device):
    torch.manual_seed(0)
    layer = DyConv2d(4, 6, 1).to(device, memory_format=torch.channels_last)
    x = torch.randn(3, 4, 8, 8).to(device, memory_format=torch.channels_last)
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    got, expected = (
        torch.autograd.grad(run(x).square().sum(), [*layer.parameters()])
        for run in (compiled, layer)
    )
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kernel", (1, 3))
def test_an_empty_batch_gives_an_empty_batch(kernel):
    leaves = [t.requires_grad_() for t in make_case(0, (kernel, kernel))]
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


def test_the_rule_fuses_small_feature_maps_of_large_batches_in_training():
    def rule(batch, side, *, channels=256, kernel=3, stride=1, training=True):
        x = torch.empty(batch, channels, side, side, device="meta")
        coeff = torch.empty(batch, channels, 6, requires_grad=training)
        bank = torch.Size((channels, 6, channels, kernel, kernel))
        return fuses_feature_maps(x, coeff, bank, stride)

    # Kernels of 2304 values, against K = 6 maps.
    assert rule(64, 2)
    assert rule(64, 8, stride=(2, 2))
    assert rule(8, 9)  # 486 values; kernels of 2^22.2 values
    assert not rule(8, 10)  # 600 values
    assert not rule(7, 2)
    assert not rule(64, 2, training=False)
    assert not rule(64, 2, channels=64)
    assert not rule(64, 4, kernel=1)


def bytes_kept(layer, x):
    """Memory of what autograd keeps for the backward pass, parameters left out."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = layer(x)
    assert out.requires_grad
    for parameter in layer.parameters():
        kept.pop(parameter.untyped_storage()._cdata, None)
    return sum(storage.nbytes() for storage in kept.values())


def test_small_feature_maps_keep_no_kernels_for_the_backward_pass():
    with torch.device("meta"):
        layer, x = DyConv2d(256, 256, 3, padding=1), torch.empty(64, 256, 2, 2)
    kept = bytes_kept(layer, x)
    with force_implementation("loop"):
        kernels = bytes_kept(layer, x)
    assert kernels > 4 * 64 * 256 * 2304
    assert kept < kernels / 20


def test_a_forced_implementation_is_used_until_the_block_ends():
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


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@ways
@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_graph_traced_with_one_image_gives_no_wrong_answer_for_two(
    name, kernel, memory_format
):
    """It may fail or be right; it must not give all images the kernel of the first."""
    torch.manual_seed(0)
    layer = nn.Sequential(DyConv2d(4, 6, kernel), nn.BatchNorm2d(6)).eval()
    one, two = (
        torch.randn(batch, 4, 8, 8).to(memory_format=memory_format) for batch in (1, 2)
    )
    with torch.no_grad(), force_implementation(name):
        graph = torch.jit.trace(layer, one)
        torch.testing.assert_close(graph(one), layer(one))
        with contextlib.suppress(RuntimeError):
            torch.testing.assert_close(graph(two), layer(two))
