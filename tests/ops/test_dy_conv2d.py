"""The layer: its start, its two ways of getting coefficients, its place in the host."""

import math

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import DefaultScope
from torch import nn

from mmseg_dynet.ops import DyConv2d, dynamic_conv2d_reference, fuse_kernels


def test_alone_it_convolves_with_its_own_prediction():
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 3, stride=2, padding=1, groups=2, num_kernels=3)
    nn.init.normal_(conv.bias)
    x = torch.randn(3, 4, 7, 8)
    (coeff,) = conv.predictor(x)
    expected = dynamic_conv2d_reference(
        x, conv.weight, coeff, conv.bias, stride=2, padding=1, groups=2
    )
    torch.testing.assert_close(conv(x), expected)


def test_given_coefficients_replace_its_own():
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 1, num_kernels=3)
    x, coeff = torch.randn(2, 4, 5, 5), torch.rand(2, 6, 3)
    expected = dynamic_conv2d_reference(x, conv.weight, coeff, conv.bias)
    torch.testing.assert_close(conv(x, coeff), expected)


def test_without_predictor_it_asks_for_coefficients():
    conv = DyConv2d(4, 6, 1, num_kernels=3, own_predictor=False)
    assert not any("predictor" in name for name in conv.state_dict())
    with pytest.raises(
        ValueError, match=r"own_predictor=False: pass coeff \(B, 6, 3\)"
    ):
        conv(torch.ones(1, 4, 5, 5))


@pytest.mark.parametrize("scope", (None, "mmseg"))
def test_any_conv_module_becomes_dynamic_by_its_conv_cfg(scope):
    with DefaultScope.overwrite_default_scope(scope):
        module = ConvModule(
            4, 8, 3, padding=1, dilation=1, norm_cfg=dict(type="BN"),
            conv_cfg=dict(type="DyConv2d", num_kernels=2),
        )  # fmt: skip
    assert isinstance(module.conv, DyConv2d)
    assert module.conv.weight.shape == (8, 2, 4, 3, 3)
    x = torch.randn(2, 4, 9, 9)
    out = module(x)
    (coeff,) = module.conv.predictor(x)
    conv = dynamic_conv2d_reference(x, module.conv.weight, coeff, padding=1)
    torch.testing.assert_close(out, module.norm(conv).relu())
    out.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_conv_module_leaves_the_initialised_bank_alone():
    torch.manual_seed(0)
    module = ConvModule(64, 64, 3, conv_cfg=dict(type="DyConv2d"))
    kaiming_std = math.sqrt(2 / (64 * 9))  # fan_out = 64 * 3 * 3
    expected = kaiming_std * 2 / math.sqrt(6)
    assert math.isclose(module.conv.weight.detach().std(), expected, rel_tol=0.02)


def test_a_layer_is_initialised_anew():
    conv = DyConv2d(4, 6, 3)
    nn.init.ones_(conv.bias)
    conv.init_weights()
    assert not conv.bias.any()


def test_a_bank_around_zeros_varies_as_a_new_one():
    torch.manual_seed(0)
    conv = DyConv2d(16, 16, 3)
    bank = conv.bank_around(torch.zeros(16, 16, 3, 3).half())
    assert bank.dtype == torch.float32
    assert math.isclose(bank.std(), conv.weight.detach().std(), rel_tol=0.15)


def test_geometry_is_read_at_forward_time():
    """Hosts (MobileNetV3) change stride, dilation and padding after construction."""
    conv = build_conv_layer(dict(type="DyConv2d"), 4, 4, 3, stride=2, padding=1)
    conv.stride, conv.dilation, conv.padding = (1, 1), (2, 2), (2, 2)
    x = torch.randn(1, 4, 9, 9)
    (coeff,) = conv.predictor(x)
    geometry = dict(stride=1, padding=2, dilation=2)
    expected = dynamic_conv2d_reference(x, conv.weight, coeff, conv.bias, **geometry)
    torch.testing.assert_close(conv(x), expected)


def test_repr_names_the_number_of_kernels():
    assert "num_kernels=6" in repr(DyConv2d(4, 6, 3))


def test_channels_last_reaches_the_bank_and_the_fused_kernels():
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 3, padding=1, num_kernels=3)
    x = torch.randn(2, 4, 7, 8)
    expected = conv(x)
    model = nn.Sequential(conv).to(memory_format=torch.channels_last)
    assert conv.weight.shape == (6, 3, 4, 3, 3)
    assert conv.weight[0].is_contiguous(memory_format=torch.channels_last)
    (coeff,) = conv.predictor(x[:1])
    kernels = fuse_kernels(conv.weight, coeff)
    assert kernels[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected)
    model(x).sum().backward()


def test_one_output_channel_trains_in_channels_last():
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        conv = DyConv2d(8, 1, 3, num_kernels=3).to(memory_format=memory_format)
        x = torch.randn(1, 8, 40, 40).to(memory_format=memory_format)
        conv(x).mean().backward()
        grads.append(conv.weight.grad)
    torch.testing.assert_close(*grads)


def test_conversions_keep_the_parameter_and_its_values():
    conv = DyConv2d(4, 6, 3)
    values, bank = conv.weight.detach().clone(), conv.weight
    assert conv.double().weight is bank
    torch.testing.assert_close(conv.weight.detach(), values.double())
    assert conv.to("meta").weight.shape == values.shape
