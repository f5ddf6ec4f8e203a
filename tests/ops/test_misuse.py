"""Misuse ends in an error in every implementation, never in a wrong number."""

import pytest
import torch

from mmseg_dynet.ops import (
    IMPLEMENTATIONS,
    CoefficientPredictor,
    DyConv2d,
    dynamic_conv2d,
    dynamic_conv2d_feature_fusion,
    dynamic_conv2d_reference,
    force_implementation,
)

NAMES = ("x", "weight", "coeff", "bias")


def arguments():
    """Two images of four channels, a bank of three 1x1 kernels for six outputs."""
    torch.manual_seed(0)
    shapes = ((2, 4, 7, 8), (6, 3, 4, 1, 1), (2, 6, 3), (6,))
    return {name: torch.rand(shape) for name, shape in zip(NAMES, shapes, strict=True)}


SHAPES = {
    r"x must be \(B, C, H, W\) .* got shapes \(4, 7, 8\)": dict(x=torch.ones(4, 7, 8)),
    r"weight must be \(O, K, C/groups, kH, kW\), .* \(6, 4, 3, 3\)": dict(
        weight=torch.ones(6, 4, 3, 3)
    ),
    r"groups=1 must divide O=6, and C=5 must be groups \* 4": dict(
        x=torch.ones(2, 5, 7, 8)
    ),
    "groups=4 must divide O=6": dict(groups=4),
    "groups=0 must divide": dict(groups=0),
    "groups=-1 must divide": dict(groups=-1),
    "2 images, but kernels or coefficients for 1": dict(coeff=torch.ones(1, 6, 3)),
    r"= \(B, 6, 3\), got shape \(2, 18\)": dict(coeff=torch.ones(2, 18)),
    r"= \(B, 6, 3\), got shape \(2, 6, 4\)": dict(coeff=torch.ones(2, 6, 4)),
    r"bias must be \(O,\) = \(6,\), got shape \(3,\)": dict(bias=torch.ones(3)),
}


@pytest.mark.parametrize("message", SHAPES)
@pytest.mark.parametrize(
    "function",
    (dynamic_conv2d, dynamic_conv2d_feature_fusion, dynamic_conv2d_reference),
)
def test_shapes_that_do_not_fit_are_named(function, message):
    with pytest.raises(ValueError, match=message):
        function(**(arguments() | SHAPES[message]))


def convolve(name: str, **given: object) -> torch.Tensor:
    """Call one of the implementations."""
    fuses = name == "feature_fusion"
    function = dynamic_conv2d_feature_fusion if fuses else dynamic_conv2d
    with force_implementation(name):
        return function(**given)


@pytest.mark.parametrize("name", ["matmul", "feature_fusion"])
@pytest.mark.parametrize("argument", NAMES)
def test_a_tensor_on_meta_is_refused(argument, name):
    """PyTorch may return memory that holds anything."""
    given = arguments()
    given[argument] = given[argument].to("meta")
    with pytest.raises(ValueError, match="move the model and its inputs to one device"):
        convolve(name, **given)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "option", [dict(stride=0), dict(stride=-1), dict(padding=-1)], ids=str
)
def test_a_step_or_a_border_that_is_none_is_refused(option, name):
    """A product of matrices pads and steps by itself, and could crop or flip."""
    with pytest.raises((ValueError, RuntimeError), match=r"stride|step|padding"):
        convolve(name, **arguments(), **option)


@pytest.mark.parametrize(
    "change", [lambda x: x[0], lambda x: x[:, :3], lambda x: x.to("meta")],
    ids=["dimensions", "channels", "device"],
)  # fmt: skip
def test_a_layer_and_its_predictor_refuse_other_inputs(change):
    layer = DyConv2d(4, 6, kernel_size=1, num_kernels=3)
    x = torch.rand(2, 4, 7, 8)
    layer(x)
    with pytest.raises((ValueError, RuntimeError), match=r"x must be|device"):
        layer(change(x))


@pytest.mark.parametrize(
    "option", [dict(stride=0), dict(dilation=(1, 0)), dict(kernel_size=(3, 0)),
               dict(padding=-1), dict(padding="same"), dict(num_kernels=0),
               dict(groups=0), dict(groups=4)],
    ids=str,
)  # fmt: skip
def test_a_layer_without_a_geometry_is_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}.* must "):
        DyConv2d(4, 6, **(dict(kernel_size=3) | option))


@pytest.mark.parametrize(
    "option", [dict(in_channels=0), dict(out_channels=()), dict(out_channels=(4, 0)),
               dict(num_kernels=0), dict(hidden_channels=0)],
    ids=str,
)  # fmt: skip
def test_a_predictor_of_widths_below_one_is_refused(option):
    with pytest.raises(ValueError, match="must be at least 1, got in_channels="):
        CoefficientPredictor(**(dict(in_channels=8, out_channels=(4,)) | option))


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("kernel", (1, 3))
@pytest.mark.parametrize("special", (float("nan"), float("inf")))
def test_what_is_not_finite_stays_in_its_image(special, kernel, name):
    layer = DyConv2d(4, 6, kernel, padding=kernel // 2)
    x = torch.rand(3, 4, 7, 8)
    with force_implementation(name), torch.no_grad():
        expected = layer(x)
        x[1, 0, 2, 3] = special
        out = layer(x)
    assert not out[1].isfinite().any(0)[2, 3]
    torch.testing.assert_close(out[::2], expected[::2])
