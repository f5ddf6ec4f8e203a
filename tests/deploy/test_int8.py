"""Int8 weights against float ones: the bound of their error, layouts, geometry."""

import pytest
import torch
from torch import nn

from mmseg_dynet.deploy import Int8DyConv2d, Int8Linear, optimize_for_inference
from mmseg_dynet.models import DyMobileNetV2, DyResNet
from mmseg_dynet.ops import DyConv2d

pytestmark = pytest.mark.usefixtures("at_inference")


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize(
    "memory_format", (torch.contiguous_format, torch.channels_last)
)
def test_fusion_is_the_weighted_sum_of_kernels_rounded_by_half_a_step(
    batch, memory_format
):
    conv = DyConv2d(6, 5, 3, num_kernels=4).to(memory_format=memory_format)
    packed = Int8DyConv2d(conv)
    # Coefficients of one and zero pick the kernels as they are stored.
    kernels = torch.stack(
        [packed.fuse(one.expand(1, 5, 4))[0] for one in torch.eye(4)], dim=1
    )  # (O, K, C, kH, kW)
    error = (kernels - conv.weight).flatten(2).abs().amax(2)
    bank = conv.weight.flatten(2)
    assert (error <= (bank.amax(2) - bank.amin(2)) / 510 * 1.001).all()
    assert (error > 0).all()

    coeff = torch.rand(batch, 5, 4)
    fused = packed.fuse(coeff)
    torch.testing.assert_close(fused, torch.einsum("bok,okchw->bochw", coeff, kernels))
    assert fused[0, 0].unsqueeze(0).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(("batch", "bias"), ((1, True), (3, True), (3, False)))
def test_a_packed_matrix_multiplies_as_its_columns_rounded_by_half_a_step(batch, bias):
    linear = nn.Linear(7, 12, bias)
    packed = Int8Linear(linear)
    bias = linear.bias if bias else 0
    columns = torch.stack([packed(one[None])[0] for one in torch.eye(7)]) - bias
    weights = linear.weight.t()  # (inputs, outputs): an input has its scale
    bound = (weights.amax(1) - weights.amin(1)) / 510
    assert ((columns - weights).abs().amax(1) <= bound * 1.001).all()
    x = torch.rand(batch, 7)
    torch.testing.assert_close(packed(x), x @ columns + bias)


def test_geometry_bias_and_predictor_are_those_of_the_layer():
    conv = DyConv2d(4, 6, (3, 1), 2, (2, 0), (2, 1), 2, num_kernels=3)
    nn.init.normal_(conv.bias)
    x = torch.randn(2, 4, 9, 8)
    expected = conv(x)
    assert (Int8DyConv2d(conv)(x) - expected).abs().max() < 0.01 * expected.std()


@pytest.mark.parametrize(
    "conv", (DyConv2d(4, 4, 1).double(), DyConv2d(4, 4, 1).to("meta"))
)
def test_a_bank_that_cannot_be_packed_is_named(conv):
    with pytest.raises(ValueError, match="only float32 on a CPU is packed"):
        Int8DyConv2d(conv)


def test_misuse_ends_in_an_error():
    """The embedding bag would read beyond its arguments."""
    packed = Int8DyConv2d(DyConv2d(4, 6, 3, num_kernels=3))
    x = torch.rand(1, 4, 5, 5)
    for shape in ((1, 6, 2), (1, 6, 4), (1, 5, 3), (6, 3)):
        with pytest.raises(ValueError, match=r"coeff must be \(B, O, K\)"):
            packed(x, torch.rand(shape))
    with pytest.raises(ValueError, match="tensors are on cpu and on meta"):
        packed.fuse(torch.rand(1, 6, 3, device="meta"))
    for x in (torch.rand(1, 4), torch.rand(2, 6), torch.rand(5)):
        with pytest.raises(ValueError, match=r"x must be \(B, 5\), got"):
            Int8Linear(nn.Linear(5, 7))(x)


def test_where_others_fuse_feature_maps_kernels_are_fused():
    layer = nn.Sequential(DyConv2d(256, 256, 3, padding=1))
    packed = optimize_for_inference(layer, int8=True)
    x = torch.randn(16, 256, 2, 2)
    expected = packed(x)
    with torch.enable_grad():  # as by default, outside of torch.no_grad()
        assert torch.equal(packed(x), expected)


ODCONV = dict(granularity="product", normaliser="softmax", static_kernel=True)


@pytest.mark.parametrize(
    "build",
    (lambda: DyResNet(18), DyMobileNetV2, lambda: DyResNet(18, coefficients=ODCONV)),
    ids=("resnet", "mobile", "options"),
)
def test_optimized_networks_compute_the_same(build, draw_norms, tmp_path):
    network = build().eval()
    draw_norms(network)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    x = torch.randn(1, 3, 64, 96)
    last = x.to(memory_format=torch.channels_last)
    expected = network(x)
    exact = optimize_for_inference(network)
    torch.save(exact, tmp_path / "exact.pt")
    exact = torch.load(tmp_path / "exact.pt", weights_only=False)
    packed = optimize_for_inference(network, int8=True)
    for out, close, coarse in zip(expected, exact(last), packed(last), strict=True):
        assert close.is_contiguous(memory_format=torch.channels_last)
        assert (close - out).abs().max() < 1e-5 * out.abs().max()
        assert (coarse - out).square().mean() < 1e-3 * out.square().mean()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any(m.training for copy in (exact, packed) for m in copy.modules())


@pytest.mark.parametrize("batch", (1, 3))
def test_small_banks_are_fused_as_a_sum_of_products(batch):
    layer = nn.Sequential(DyConv2d(6, 5, 3, num_kernels=4))
    (fast,) = optimize_for_inference(layer)
    assert "fusion" in vars(fast)
    coeff = torch.rand(batch, 5, 4)
    torch.testing.assert_close(fast.fuse(coeff), layer[0].fuse(coeff))
    packed = optimize_for_inference(fast, int8=True)
    torch.testing.assert_close(packed.fuse(coeff), fast.fuse(coeff), atol=0.01, rtol=0)
    assert packed.fuse(coeff).ne(fast.fuse(coeff)).any()
    large = optimize_for_inference(DyConv2d(12, 5, 3, num_kernels=4))
    assert "fusion" not in vars(large)


def test_layouts_of_an_optimized_network():
    network = optimize_for_inference(DyResNet(18, deep_stem=True))
    bank = network.layer1[0].conv1.weight.flatten(0, 1)
    for kernels in (bank, network.stem[3].weight):
        assert kernels.shape[1] > 1 and kernels.shape[2:] == (3, 3)
        assert kernels.is_contiguous(memory_format=torch.channels_last)
    for linear in network.layer1[0].predictor.children():
        assert linear.weight.t().is_contiguous()


def test_packed_weights_take_a_quarter_and_survive_saving_and_autocast():
    packed, other = (
        optimize_for_inference(DyResNet(18, base_channels=8), int8=True)
        for _ in range(2)
    )
    conv, predictor = packed.layer1[0].conv1, packed.layer1[0].predictor
    # Each row also has a scale and an offset.
    assert conv.bank.dtype == torch.uint8
    assert conv.bank.nbytes == 8 * 6 * (64 * 9 + 8)
    assert isinstance(predictor.hidden, Int8Linear)
    assert predictor.logits.columns.shape == (16, 2 * 8 * 6 + 8)
    other.load_state_dict(packed.state_dict())
    x = torch.randn(1, 3, 32, 32)
    expected = packed(x)
    assert all(map(torch.equal, other(x), expected))
    with torch.autocast("cpu"):
        assert (packed(x)[0] - expected[0]).norm() < 0.05 * expected[0].norm()
    with pytest.raises(ValueError, match="int8 already: give the float network"):
        optimize_for_inference(packed)
