"""The predictor against its formula, and its options against the papers'."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.ops import (
    CoefficientOptions,
    CoefficientPredictor,
    DyConv2d,
    fuse_kernels,
    shared_predictor,
)

T = 4.0  # a temperature


def test_two_layers_equal_the_formula():
    torch.manual_seed(1)
    predictor = CoefficientPredictor(8, (3, 5), num_kernels=2, hidden_channels=4)
    x = torch.randn(2, 8, 6, 7) + 3 * torch.randn(2, 8, 1, 1)
    pooled = torch.stack([image.flatten(1).mean(1) for image in x])
    hidden = (pooled @ predictor.hidden.weight.T + predictor.hidden.bias).clamp(min=0)
    assert hidden.any(1).all() and not hidden.all()  # the ReLU matters
    logits = hidden @ predictor.logits.weight.T + predictor.logits.bias
    expected = 1 / (1 + torch.exp(-logits))

    first, second = predictor(x)
    # The first 3 * 2 values serve the first layer, channel by channel.
    torch.testing.assert_close(first, expected[:, :6].reshape(2, 3, 2))
    torch.testing.assert_close(second, expected[:, 6:].reshape(2, 5, 2))


# The papers' kernels (O, C, kH, kW) from the logits z of an image and a bank (O, K, C,
# kH, kW). Their banks may be (K, O, ...), which is only another order.


def weightnet(z: Tensor, bank: Tensor) -> Tensor:
    """Its implementation: a grouped 1x1 convolution of the sigmoids, for G = 1."""
    out_channels, num_kernels = bank.shape[:2]
    weight = bank.flatten(2).transpose(1, 2).reshape(-1, num_kernels, 1, 1)
    kernel = F.conv2d(z.sigmoid()[None, :, None, None], weight, groups=out_channels)
    return kernel.reshape(out_channels, *bank.shape[2:])


def condconv(z: Tensor, bank: Tensor) -> Tensor:
    return sum(1 / (1 + (-z[k]).exp()) * bank[:, k] for k in range(len(z)))


def dy_conv(z: Tensor, bank: Tensor) -> Tensor:
    powers = (z / T).exp()
    return sum(powers[k] / powers.sum() * bank[:, k] for k in range(len(z)))


def odconv(z: Tensor, bank: Tensor) -> Tensor:
    """Kernel attention (K), then filter attention (O); both have the temperature."""
    num_kernels = bank.shape[1]
    filters = 1 / (1 + (-z[num_kernels:] / T).exp())
    return filters[:, None, None, None] * dy_conv(z[:num_kernels], bank)


def kernel_warehouse(z: Tensor, bank: Tensor) -> Tensor:
    rows = []
    for logits, kernels in zip(z.reshape(bank.shape[:2]), bank, strict=True):
        attention = logits / (sum(map(abs, logits)) + 1e-3)
        rows.append(sum(a * w for a, w in zip(attention, kernels, strict=True)))
    return torch.stack(rows)


def static_and_dynamic(z: Tensor, bank: Tensor) -> Tensor:
    """A static kernel and a sum of others, as DMF has it (without its factor 0.1)."""
    return bank[:, 0] + weightnet(z, bank[:, 1:])


PAPERS = [
    ({}, weightnet),
    (dict(granularity="kernel"), condconv),
    (dict(granularity="kernel", normaliser="softmax", temperature=T), dy_conv),
    (dict(granularity="product", normaliser="softmax", temperature=T), odconv),
    (dict(normaliser="l1"), kernel_warehouse),
    (dict(static_kernel=True), static_and_dynamic),
]
OPTIONS = [options for options, _ in PAPERS]
OPTIONS += [
    dict(granularity="product", normaliser="l1"),
    dict(granularity="kernel", normaliser="softmax", static_kernel=True),
    dict(granularity="product", static_kernel=True, centred=True),
]


def name_of(options: object) -> str | None:
    if isinstance(options, dict):
        return "-".join(map(str, options.values())) or "default"
    return None


@pytest.mark.parametrize(("options", "fuse"), PAPERS, ids=name_of)
def test_options_are_the_papers(options, fuse: Callable[[Tensor, Tensor], Tensor]):
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 3, num_kernels=3, coefficients=options).double()
    linear = conv.predictor.logits
    for tensor in (conv.weight, linear.weight, linear.bias):
        nn.init.normal_(tensor)
    x = torch.randn(3, 4, 7, 8, dtype=torch.double)
    expected = []
    for image in x:
        z = linear.weight @ image.mean((1, 2)) + linear.bias
        kernel = fuse(z, conv.weight)
        expected.append(F.conv2d(image, kernel, conv.bias))
    torch.testing.assert_close(conv(x), torch.stack(expected))


@pytest.mark.parametrize("granularity", ("kernel", "product"))
def test_each_layer_of_a_block_has_its_own_kernels(granularity):
    predictor = CoefficientPredictor(2, (3, 5), 2, coefficients=dict(
        granularity=granularity, static_kernel=False))  # fmt: skip
    nn.init.zeros_(predictor.logits.weight)
    nn.init.constant_(predictor.logits.bias, 100)  # a sigmoid of 1
    predictor.logits.bias.data[:4] = torch.tensor([0.2, 0.4, 0.6, 0.8]).logit()
    first, second = predictor(torch.rand(1, 2, 3, 3))
    torch.testing.assert_close(first[0], torch.tensor([0.2, 0.4]).expand(3, 2))
    torch.testing.assert_close(second[0], torch.tensor([0.6, 0.8]).expand(5, 2))
    if granularity == "product":
        predictor.logits.bias.data[4 + 3 + 1] = 0  # channel 1 of the second layer
        *_, scaled = predictor(torch.rand(1, 2, 3, 3))
        torch.testing.assert_close(scaled[0, 1], torch.tensor([0.3, 0.4]))
        assert torch.equal(scaled[0, 2:], second[0, 2:])


@pytest.mark.parametrize("num_kernels", (2, 6))
@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_fused_kernels_start_with_kaiming_variance(options, num_kernels):
    torch.manual_seed(0)
    x = torch.randn(1, 64, 4, 4).relu()  # as after a convolution, norm and ReLU
    squares = 0
    for _ in range(100):  # layers: those of one granularity share few coefficients
        conv = DyConv2d(64, 64, 1, num_kernels=num_kernels, coefficients=options)
        kernels = fuse_kernels(conv.weight, *conv.predictor(x)).detach()
        squares += kernels.square().mean() / 100
    assert squares.sqrt() == pytest.approx((2 / 64) ** 0.5, rel=0.04)


@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_the_bank_around_a_kernel_fuses_to_it(options):
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 3, num_kernels=3, coefficients=options).double()
    kernel = torch.randn(6, 4, 3, 3, dtype=torch.double)
    kernel[2] = 0  # as many a last convolution of a block starts
    conv.weight.data = conv.bank_around(kernel)
    conv.predictor.predict_start()
    x = torch.rand(2, 4, 5, 5, dtype=torch.double)
    fused = fuse_kernels(conv.weight, *conv.predictor(x))
    torch.testing.assert_close(fused, kernel.expand(2, -1, -1, -1, -1))
    if not conv.options.static_kernel:
        assert (conv.weight.std(1) > 0).all()


@pytest.mark.parametrize(
    ("options", "hidden", "macs"),
    [
        ({}, None, 8 * (3 + 5) * 6),
        ({}, 2, 8 * 2 + 2 * (3 + 5) * 6),
        (dict(granularity="kernel"), None, 8 * 2 * 6),
        (dict(granularity="product"), 2, 8 * 2 + 2 * (2 * 6 + 3 + 5)),
        (dict(granularity="kernel", static_kernel=True), None, 8 * 2 * 5),
        (dict(normaliser="softmax", centred=True), None, 8 * (3 + 5) * 6),
    ],
)
def test_macs_by_hand(options, hidden, macs):
    """Two layers, of 8 -> 3 and 3 -> 5 channels, with 6 kernels of 1x1 and of 3x3."""
    dynamic = dict(num_kernels=6, own_predictor=False, coefficients=options)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = DyConv2d(8, 3, 1, **dynamic)
            self.conv2 = DyConv2d(3, 5, 3, padding=1, **dynamic)
            self.predictor = shared_predictor([self.conv1, self.conv2], hidden)

        def forward(self, x):
            coeff1, coeff2 = self.predictor(x)
            return self.conv2(self.conv1(x, coeff1), coeff2)

    counted = count_complexity(Block(), (2, 8, 10, 10))
    assert counted.prediction == 2 * macs
    assert counted.fusion == 2 * 6 * (3 * 8 + 5 * 3 * 9)
    assert counted.convolution == 2 * 100 * (3 * 8 + 5 * 3 * 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(granularity="filter"), "'filter' is not one of channel, kernel, product"),
        (dict(normaliser="tanh"), "'tanh' is not one of sigmoid, softmax, l1"),
        (dict(normalizer="l1"), r"\['normalizer'\] are not of granularity, normaliser"),
        (dict(temperature=0), "temperature must be above 0"),
        (dict(momentum=2), "momentum above 0 and at most 1, got .* momentum=2"),
        (dict(static_kernel=True), "needs at least 2 kernels"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DyConv2d(4, 4, 1, num_kernels=1, coefficients=options)


def test_a_temperature_is_saved_and_divides():
    options = CoefficientOptions(normaliser="softmax")
    predictor = CoefficientPredictor(4, (3,), 2, coefficients=options)
    assert predictor.state_dict()["temperature"] == 30
    x = torch.rand(2, 4, 5, 5)
    predictor.temperature.fill_(1e6)
    torch.testing.assert_close(predictor(x)[0], torch.full((2, 3, 2), 0.5))
    predictor.temperature.fill_(1e-6)
    assert set(predictor(x)[0].flatten().tolist()) == {0, 1}


@pytest.fixture
def centred() -> CoefficientPredictor:
    torch.manual_seed(0)
    options = dict(centred=True, momentum=0.1)
    return CoefficientPredictor(4, (3, 2), 2, 3, options).double()


def images(*batch: int) -> Tensor:
    scale = torch.tensor([0.1, 1, 3, 10], dtype=torch.double)[:, None, None]
    return scale * (2 + torch.randn(*batch, 4, 5, 5, dtype=torch.double))


def step(predictor: nn.Module, x: Tensor) -> None:
    sum(coeff.square().sum() for coeff in predictor(x)).backward()


def test_running_statistics_are_those_of_weighted_images(centred):
    points, weights = torch.tensor([[-1.0] * 4, [1.0] * 4]).double(), [0.5, 0.5]
    for batch in (2, 1, 0, 5, 1):
        x = images(batch)
        step(centred, x)
        points = torch.cat([points, x.mean((2, 3))])
        if batch:
            weights = [0.9 * weight for weight in weights] + batch * [0.1 / batch]
    weights = torch.tensor(weights, dtype=torch.double)
    mean = weights @ points
    torch.testing.assert_close(centred.running_mean, mean)
    torch.testing.assert_close(centred.running_var, weights @ (points - mean).square())


def test_centred_values_are_those_of_the_statistics_and_of_no_other_image(centred):
    for _ in range(3):
        step(centred, images(4))
    x = images(3)
    pooled = x.mean((2, 3))
    pooled = (pooled - centred.running_mean) / (centred.running_var + 1e-5).sqrt()
    hidden = centred.hidden(pooled).relu()
    expected = centred.logits(hidden).sigmoid().reshape(3, 5, 2).split((3, 2), dim=1)
    torch.testing.assert_close(centred(x), expected)  # in training mode
    for i in range(3):
        alone = centred(x[i : i + 1])
        torch.testing.assert_close(alone, tuple(c[i : i + 1] for c in expected))


def test_statistics_stay_outside_of_training_steps(centred):
    before = centred.running_mean.clone()
    with torch.no_grad():
        centred(images(2))
    step(centred.eval(), images(2))
    assert torch.equal(centred.running_mean, before)


@pytest.mark.parametrize("use_reentrant", (False, True))
def test_a_checkpoint_sees_the_statistics_of_its_first_pass(centred, use_reentrant):
    x = images(3).requires_grad_()
    plain = {n: t.clone() for n, t in centred.state_dict().items()}
    got = []
    for with_cp in (False, True):
        centred.load_state_dict(plain)
        centred.zero_grad()
        if with_cp:
            coeffs = checkpoint(centred, x, use_reentrant=use_reentrant)
        else:
            coeffs = centred(x)
        sum(coeff.square().sum() for coeff in coeffs).backward()
        grads = [p.grad for p in centred.parameters()]
        got.append([*grads, centred.running_mean.clone(), centred.running_var.clone()])
    torch.testing.assert_close(*got)
    assert not torch.equal(got[0][-2], plain["running_mean"])
