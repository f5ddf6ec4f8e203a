"""Hostile shapes, numbers and arguments: a right answer or a ValueError, nothing else.

Hypothesis draws 2800 cases: 1000 of the functions, each in all their implementations,
1000 of arguments that do not fit, 400 of the predictor, 400 of four backbones. They are
the same in every run.
"""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmseg_dynet.models import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
)
from mmseg_dynet.ops import (
    IMPLEMENTATIONS,
    CoefficientPredictor,
    DyConv2d,
    dynamic_conv2d,
    dynamic_conv2d_feature_fusion,
    force_implementation,
)

REPEATABLE = settings(
    derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
SPECIAL = (math.nan, math.inf, -math.inf, 1e38, -0.0)
"""Values that one image of a batch may hold."""


def by_definition(
    x: Tensor, weight: Tensor, coeff: Tensor, bias: Tensor | None, geometry: tuple
) -> Tensor:
    """Equation 1 in float64, image by image: (B, O, H', W'), B may be 0."""
    stride, padding, dilation, groups = geometry
    pad_h, pad_w = _pair(padding)
    assert min(pad_h, pad_w) >= 0
    x = nn.functional.pad(x.double(), (pad_w, pad_w, pad_h, pad_h))
    kernels = torch.einsum("bok,okchw->bochw", coeff.double(), weight.double())
    bias = None if bias is None else bias.double()
    outs = [
        nn.functional.conv2d(image[None], kernel, bias, stride, 0, dilation, groups)
        for image, kernel in zip(x, kernels, strict=True)
    ]
    if outs:
        return torch.cat(outs)
    return nn.functional.conv2d(x, kernels.sum(0), bias, stride, 0, dilation, groups)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor | None, tuple]:
    """Arguments that fit together: x, bank, coefficients, bias, geometry."""
    groups = draw(st.integers(1, 3))
    batch = draw(st.integers(0, 3))
    channels, out_channels = (groups * draw(st.integers(1, 3)) for _ in range(2))
    num_kernels = draw(st.integers(1, 4))
    kernel, stride, padding, dilation = (
        tuple(draw(st.tuples(values, values)))
        for values in (
            st.integers(1, 4),
            st.sampled_from([1, 2, 3, 1000]),
            st.integers(0, 3),
            st.integers(1, 3),
        )
    )
    # From the smallest image that the kernel fits into.
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 17))
        for k, p, d in zip(kernel, padding, dilation, strict=True)
    ]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(batch, channels, *size, generator=generator)
    weight = torch.randn(
        out_channels, num_kernels, channels // groups, *kernel, generator=generator
    )
    coeff = torch.rand(batch, out_channels, num_kernels, generator=generator)
    bias = torch.randn(out_channels, generator=generator)
    layout = draw(st.sampled_from(["plain", "channels_last", "strided", "expanded"]))
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "strided":
        x = x.repeat_interleave(2, 3)[..., ::2]
        coeff = coeff.mT.contiguous().mT
        weight = weight.transpose(3, 4).contiguous().transpose(3, 4)
    elif layout == "expanded" and batch:
        x, coeff = x[:1].expand_as(x), coeff[:1].expand_as(coeff)
    geometry = (stride, padding, dilation, groups)
    return x, weight, coeff, draw(st.sampled_from([None, bias])), geometry


@settings(REPEATABLE, max_examples=1000)
@given(case=cases(), special=st.sampled_from([None, *SPECIAL]), data=st.data())
def test_every_implementation_gives_the_definition(case, special, data):
    x, weight, coeff, bias, geometry = case
    if special is not None and len(x):
        x = x.clone()
        image = data.draw(st.integers(0, len(x) - 1))
        x[image, 0, 0, 0] = special
    expected = by_definition(x, weight, coeff, bias, geometry)
    outs = {
        function.__name__: function(x, weight, coeff, bias, *geometry)
        for function in (dynamic_conv2d, dynamic_conv2d_feature_fusion)
    }
    for name in IMPLEMENTATIONS:
        with force_implementation(name):
            outs[name] = layer_of(weight, bias, geometry)(x, coeff)
    for name, out in outs.items():
        assert out.shape == expected.shape, name
        # Sums of infinities are NaN or not, depending on their order; numbers near the
        # largest may add up to infinity in float32, and not in float64.
        finite = expected.isfinite()
        if special != 1e38:
            assert torch.equal(out.isfinite(), finite), name
        sane = finite & (expected.abs() < 1e30)
        torch.testing.assert_close(
            out[sane], expected[sane].float(), rtol=1e-4, atol=1e-4, msg=name
        )


def layer_of(weight: Tensor, bias: Tensor | None, geometry: tuple) -> DyConv2d:
    stride, padding, dilation, groups = geometry
    out_channels, num_kernels, group_channels, *kernel = weight.shape
    layer = DyConv2d(
        group_channels * groups, out_channels, tuple(kernel), stride, padding, dilation,
        groups, bias is not None, num_kernels, own_predictor=False,
    )  # fmt: skip
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = bias
    return layer


WRONG = {
    "x of 3 dimensions": lambda a: a | dict(x=a["x"][0]),
    "x of more channels": lambda a: a | dict(x=torch.cat([a["x"]] * 2, 1)),
    "fewer coefficients": lambda a: a | dict(coeff=a["coeff"][..., :-1]),
    "coefficients of fewer images": lambda a: a | dict(coeff=a["coeff"][:-1]),
    "flat coefficients": lambda a: a | dict(coeff=a["coeff"][0]),
    "a bank of 4 dimensions": lambda a: a | dict(weight=a["weight"][:, 0]),
    "a longer bias": lambda a: a | dict(bias=torch.zeros(len(a["weight"]) + 1)),
    "x of float64": lambda a: a | dict(x=a["x"].double()),
    "a bank of float64": lambda a: a | dict(weight=a["weight"].double()),
    "coefficients of integers": lambda a: a | dict(coeff=a["coeff"].long()),
    "bias of float64": lambda a: a | dict(bias=torch.zeros(len(a["weight"])).double()),
    "x on another device": lambda a: a | dict(x=a["x"].to("meta")),
    "a bank on another device": lambda a: a | dict(weight=a["weight"].to("meta")),
    "coefficients on another device": lambda a: a | dict(coeff=a["coeff"].to("meta")),
    "a bias on another device": lambda a: (
        a | dict(bias=torch.zeros(len(a["weight"]), device="meta"))
    ),
    "no groups": lambda a: a | dict(groups=0),
    "negative groups": lambda a: a | dict(groups=-1),
    "groups that do not divide": lambda a: a | dict(groups=7),
    "no stride": lambda a: a | dict(stride=0),
    "negative stride": lambda a: a | dict(stride=-1),
    "negative padding": lambda a: a | dict(padding=-1),
    "no dilation": lambda a: a | dict(dilation=0),
    "an image smaller than the kernel": lambda a: a | dict(dilation=100),
    "an image without pixels": lambda a: a | dict(x=a["x"][..., :0]),
}


@settings(REPEATABLE, max_examples=1000)
@given(
    case=cases().filter(lambda case: len(case[0])),
    wrong=st.sampled_from(sorted(WRONG)),
    name=st.sampled_from(IMPLEMENTATIONS),
)
def test_arguments_that_do_not_fit_are_refused(case, wrong, name):
    x, weight, coeff, bias, (stride, padding, dilation, groups) = case
    arguments = WRONG[wrong](
        dict(
            x=x, weight=weight, coeff=coeff, bias=bias, stride=stride, padding=padding,
            dilation=dilation, groups=groups,
        )
    )  # fmt: skip
    function = (
        dynamic_conv2d_feature_fusion if name == "feature_fusion" else dynamic_conv2d
    )
    with force_implementation(name):
        try:
            out = function(**arguments)
        except ValueError:
            return
    if out.numel() == 0:  # no pixels give none
        assert not arguments["x"].numel() and weight.shape[3:] == (1, 1)
        return
    # Some of them fit a pointwise kernel, to which its dilation means nothing.
    if weight.shape[3:] == (1, 1):
        arguments["dilation"] = 1
    geometry = tuple(arguments[k] for k in ("stride", "padding", "dilation", "groups"))
    expected = by_definition(
        *(arguments[k] for k in ("x", "weight", "coeff", "bias")), geometry
    )
    torch.testing.assert_close(out, expected.float(), rtol=1e-4, atol=1e-4, msg=wrong)


@settings(REPEATABLE, max_examples=400)
@given(
    batch=st.integers(0, 3),
    channels=st.integers(-1, 5),
    out_channels=st.lists(st.integers(-1, 4), max_size=3),
    num_kernels=st.integers(-2, 5),
    hidden=st.sampled_from([None, -1, 0, 1, 3]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    special=st.sampled_from([0.0, *SPECIAL]),
)
def test_predictor(batch, channels, out_channels, num_kernels, hidden, size, special):
    widths = [channels, num_kernels, *out_channels, *([hidden] * (hidden is not None))]
    if not out_channels or min(widths) < 1:
        with pytest.raises(ValueError, match="must be at least 1"):
            CoefficientPredictor(channels, out_channels, num_kernels, hidden)
        return
    predictor = CoefficientPredictor(channels, out_channels, num_kernels, hidden)
    x = torch.randn(batch, channels, *size)
    alone = [predictor(image[None]) for image in x]
    if batch:
        x[0, 0, 0, 0] = special
    coeffs = predictor(x)
    assert [c.shape for c in coeffs] == [(batch, o, num_kernels) for o in out_channels]
    for layer, coeff in enumerate(coeffs):
        for image in range(1, batch):  # whatever the first one holds
            torch.testing.assert_close(coeff[image], alone[image][layer][0])
            assert ((coeff[image] >= 0) & (coeff[image] <= 1)).all()


WRONG_INPUTS = [name for name in WRONG if name.startswith("x ")]


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("wrong", WRONG_INPUTS)
def test_inputs_that_do_not_fit_a_layer_of_its_own_are_refused(wrong, name):
    """With its own predictor, which sees the input first."""
    x = WRONG[wrong](dict(x=torch.randn(2, 4, 5, 5)))["x"]
    with force_implementation(name), pytest.raises(ValueError, match="x "):
        DyConv2d(4, 6, 3, num_kernels=3)(x)


@pytest.mark.parametrize(
    "option", [dict(stride=0), dict(dilation=(1, 0)), dict(kernel_size=0),
               dict(padding=-1), dict(padding="same")],
)  # fmt: skip
def test_a_layer_without_a_geometry_is_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} must be"):
        DyConv2d(4, 6, **(dict(kernel_size=3) | option))


STRIDES = {
    DyResNet: (4, 8, 16, 32),
    DyMobileNetV2: (4, 8, 16, 32),
    DyMobileNetV3: (4, 8, 16, 32),
    DyShuffleNetV2: (8, 16, 32),
}
"""Of what the backbones return."""


@pytest.fixture(scope="module")
def backbones() -> dict[type, nn.Module]:
    torch.manual_seed(0)
    options = {
        DyResNet: dict(depth=18, base_channels=8, stem_channels=8),
        DyMobileNetV2: dict(widen_factor=0.25),
        DyMobileNetV3: dict(widen_factor=0.25, out_indices=(0, 1, 2, 5)),
        DyShuffleNetV2: dict(widen_factor=0.5),
    }
    return {
        network: network(num_kernels=2, **options[network]).eval()
        for network in STRIDES
    }


@settings(REPEATABLE, max_examples=400)
@given(
    network=st.sampled_from(list(STRIDES)),
    batch=st.integers(0, 3),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    layout=st.sampled_from(["plain", "channels_last", "strided"]),
    special=st.sampled_from([0.0, math.nan, math.inf]),
)
def test_backbones(backbones, network, batch, size, layout, special):
    x = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))
    if batch:
        x[0, 0, 0, 0] = special
    plain = x
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "strided":
        x = x.repeat_interleave(2, 2)[:, :, ::2]
    with torch.no_grad():
        outs = backbones[network](x)
        alone = backbones[network](plain[-1:])
    strides = STRIDES[network]
    assert len(outs) == len(strides)
    for out, last, stride in zip(outs, alone, strides, strict=True):
        assert out.shape[0] == batch
        assert out.shape[2:] == tuple(-(-side // stride) for side in size)
        if batch > 1:  # the last image knows nothing of the first
            assert out[-1].isfinite().all()
            torch.testing.assert_close(out[-1], last[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_kernels", [0, -1])
@pytest.mark.parametrize("network", STRIDES)
def test_backbones_without_kernels_are_refused(network, num_kernels):
    options = dict(depth=18) if network is DyResNet else {}
    with pytest.raises(ValueError, match="num_kernels"):
        network(num_kernels=num_kernels, **options)
