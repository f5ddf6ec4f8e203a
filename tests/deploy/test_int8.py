"""Int8 weights against float ones: the bound of their error, layouts, geometry."""

import pytest
import torch
from torch import nn

from mmseg_dynet.deploy import Int8DyConv2d, Int8Linear, optimize_for_inference
from mmseg_dynet.models import DyMobileNetV2, DyResNet
from mmseg_dynet.ops import DyConv2d, force_implementation

FORMATS = (torch.contiguous_format, torch.channels_last)


def test_packed_weights_are_off_by_half_a_step_of_their_kernel():
    torch.manual_seed(0)
    conv = DyConv2d(6, 5, 3, num_kernels=4)
    packed = Int8DyConv2d(conv)
    bank = conv.weight.detach().flatten(2)  # (O, K, C * kH * kW)
    bound = (bank.amax(2) - bank.amin(2)) / 510
    for k in range(4):  # a coefficient of one picks a kernel
        picked = torch.zeros(1, 5, 4)
        picked[..., k] = 1
        error = (packed.fuse(picked)[0].flatten(1) - bank[:, k]).abs().amax(1)
        assert (error <= bound[:, k] * 1.001).all()
        assert (error > 0).all()


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("memory_format", FORMATS)
def test_fusion_is_the_weighted_sum_of_the_packed_kernels(batch, memory_format):
    torch.manual_seed(0)
    conv = DyConv2d(6, 5, 3, num_kernels=4).to(memory_format=memory_format)
    packed = Int8DyConv2d(conv)
    kernels = torch.stack(
        [packed.fuse(one.expand(1, 5, 4))[0] for one in torch.eye(4)], dim=1
    )  # (O, K, C, kH, kW), as they are stored
    coeff = torch.rand(batch, 5, 4)
    fused = packed.fuse(coeff)
    torch.testing.assert_close(fused, torch.einsum("bok,okchw->bochw", coeff, kernels))
    assert fused[0, 0].unsqueeze(0).is_contiguous(memory_format=memory_format)


def test_geometry_bias_and_predictor_are_those_of_the_layer():
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, (3, 1), 2, (2, 0), (2, 1), 2, num_kernels=3)
    nn.init.normal_(conv.bias)
    x = torch.randn(2, 4, 9, 8)
    expected = conv(x)
    assert (Int8DyConv2d(conv)(x) - expected).abs().max() < 0.01 * expected.std()
    assert "num_kernels=3" in repr(Int8DyConv2d(conv))


def test_a_bank_takes_a_quarter_and_survives_saving():
    torch.manual_seed(0)
    conv = DyConv2d(64, 32, 3, own_predictor=False)
    packed = Int8DyConv2d(conv)
    (bank,) = (t for name, t in packed.state_dict().items() if name == "bank")
    assert bank.dtype == torch.uint8
    assert bank.nbytes == 32 * 6 * (64 * 9 + 8)  # and scale and offset of a kernel
    other = Int8DyConv2d(DyConv2d(64, 32, 3, own_predictor=False))
    other.load_state_dict(packed.state_dict())
    coeff = torch.rand(1, 32, 6)
    assert torch.equal(other.fuse(coeff), packed.fuse(coeff))


@pytest.mark.parametrize(
    "conv", (DyConv2d(4, 4, 1).double(), DyConv2d(4, 4, 1).to("meta"))
)
def test_a_bank_that_cannot_be_packed_is_named(conv):
    with pytest.raises(ValueError, match="eight bits are made of float32 on a CPU"):
        Int8DyConv2d(conv)


@pytest.mark.parametrize("shape", [(1, 6, 2), (1, 6, 4), (1, 5, 3), (6, 3)])
def test_coefficients_that_do_not_fit_are_refused(shape):
    """The embedding bag would read beyond them."""
    conv = DyConv2d(4, 6, 3, num_kernels=3)
    for layer in (conv, Int8DyConv2d(conv)):
        with pytest.raises(
            ValueError, match=r"coeff must be \(B, O, K\) = \(B, 6, 3\)"
        ):
            layer(torch.rand(1, 4, 5, 5), torch.rand(shape))


def test_what_int8_cannot_do_is_refused():
    packed = Int8DyConv2d(DyConv2d(4, 6, 3, num_kernels=3))
    x = torch.rand(1, 4, 5, 5)
    with pytest.raises(ValueError, match=r"must be float32 for int8 banks, got .*64"):
        packed.fuse(torch.rand(1, 6, 3).double())
    with pytest.raises(ValueError, match="tensors are on cpu and on meta"):
        packed.fuse(torch.rand(1, 6, 3, device="meta"))
    with (
        force_implementation("feature_fusion"),
        pytest.raises(ValueError, match="cannot fuse feature maps: force another"),
    ):
        packed(x)


@pytest.mark.parametrize("x", [torch.rand(1, 4), torch.rand(2, 6), torch.rand(5)])
def test_vectors_that_do_not_fit_a_packed_matrix_are_refused(x):
    with pytest.raises(ValueError, match=r"x must be \(B, 5\) of float32, got"):
        Int8Linear(nn.Linear(5, 7))(x)
    with pytest.raises(ValueError, match=r"float32, got \(1, 5\) of torch.float64"):
        Int8Linear(nn.Linear(5, 7))(torch.rand(1, 5).double())


@pytest.mark.parametrize("batch", (1, 3))
def test_a_packed_matrix_multiplies_as_its_rounded_columns(batch):
    torch.manual_seed(0)
    linear = nn.Linear(7, 12)
    packed = Int8Linear(linear)
    columns = torch.stack([packed(one[None])[0] for one in torch.eye(7)]) - linear.bias
    weights = linear.weight.detach().t()  # (inputs, outputs): an input has its scale
    bound = (weights.amax(1) - weights.amin(1)) / 510
    assert ((columns - weights).abs().amax(1) <= bound * 1.001).all()
    x = torch.rand(batch, 7)
    torch.testing.assert_close(packed(x), x @ columns + linear.bias)


@pytest.mark.parametrize(
    "make", (lambda: DyResNet(18), lambda: DyMobileNetV2()), ids=("resnet", "mobile")
)
def test_optimized_networks_compute_the_same(make, draw_norms):
    torch.manual_seed(0)
    network = make().eval()
    draw_norms(network)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    x = torch.randn(1, 3, 64, 96)
    last = x.to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = network(x)
        exact = optimize_for_inference(network)(last)
        packed = optimize_for_inference(network, int8=True)(last)
    for out, close, coarse in zip(expected, exact, packed, strict=True):
        assert close.is_contiguous(memory_format=torch.channels_last)
        assert (close - out).abs().max() < 1e-5 * out.abs().max()
        assert (coarse - out).square().mean() < 1e-3 * out.square().mean()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("int8", [False, True])
def test_all_of_an_optimized_network_is_in_eval_mode(int8):
    network = optimize_for_inference(DyResNet(18), int8)
    assert not any(module.training for module in network.modules())


def test_kernels_and_banks_are_in_channels_last():
    network = optimize_for_inference(DyResNet(18, deep_stem=True))
    bank = network.layer1[0].conv1.weight.flatten(0, 1)
    for kernels in (bank, network.stem[3].weight):
        assert kernels.shape[1] > 1 and kernels.shape[2:] == (3, 3)
        assert kernels.is_contiguous(memory_format=torch.channels_last)


def test_predictors_are_laid_out_by_columns():
    network = optimize_for_inference(DyResNet(18))
    predictors = [block.predictor for block in network.layer1]
    assert len(predictors) == 2
    for predictor in predictors:
        for linear in (predictor.hidden, predictor.logits):
            assert linear.weight.t().is_contiguous()


def test_int8_predictors_are_packed_and_saved():
    torch.manual_seed(0)
    network = DyResNet(18).eval()
    packed = optimize_for_inference(network, int8=True)
    predictor = packed.layer1[0].predictor
    assert isinstance(predictor.hidden, Int8Linear)
    assert predictor.logits.columns.shape == (16, 2 * 32 * 6 + 8)
    other = optimize_for_inference(DyResNet(18), int8=True)
    other.load_state_dict(packed.state_dict())
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for out, expected in zip(other(x), packed(x), strict=True):
            assert torch.equal(out, expected)
