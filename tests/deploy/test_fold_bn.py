"""A folded network is the network that it was folded from.

That each of the package's backbones is, stands in the contract of the backbones.
"""

from pathlib import Path

import pytest
import torch
from mmcv.cnn import ConvModule
from mmseg.models.backbones import MobileNetV2, MobileNetV3, ResNet, ResNetV1c
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.deploy import fold_bn
from mmseg_dynet.models.blocks.branch import DyConvModule
from mmseg_dynet.ops import DyConv2d

CONFIGS = Path(__file__).parents[2] / "configs/dynet"
TWINS = {
    "resnet18-v1c": lambda: ResNetV1c(depth=18),
    "resnet50": lambda: ResNet(depth=50),
    "mobilenet-v2": lambda: MobileNetV2(),
    "mobilenet-v3": lambda: MobileNetV3("small"),
}


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(m, _BatchNorm) for m in network.modules())


def test_one_dynamic_layer_by_hand(draw_norms):
    torch.manual_seed(0)
    layer = nn.Sequential(DyConv2d(4, 6, 3, num_kernels=2), nn.BatchNorm2d(6)).double()
    draw_norms(layer)
    conv, norm = layer.eval()
    nn.init.normal_(conv.bias)
    folded, identity = fold_bn(layer)
    assert isinstance(identity, nn.Identity)
    for o in range(6):
        scale = norm.weight[o] / (norm.running_var[o] + norm.eps).sqrt()
        torch.testing.assert_close(folded.weight[o], conv.weight[o] * scale)
        shift = (conv.bias[o] - norm.running_mean[o]) * scale + norm.bias[o]
        torch.testing.assert_close(folded.bias[o], shift)


@pytest.mark.parametrize("name", TWINS)
def test_a_folded_static_twin_computes_the_same(name, draw_norms):
    torch.manual_seed(0)
    backbone = TWINS[name]().double()
    draw_norms(backbone)
    backbone.eval()
    folded = fold_bn(backbone)
    assert has_batch_norm(backbone)
    assert not has_batch_norm(folded)
    x = torch.randn(2, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        outs, expected = tuple(folded(x)), tuple(backbone(x))
        torch.testing.assert_close(outs, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("arm", ("", "dy-", "fix-"))
@pytest.mark.parametrize("channels_last", (False, True))
def test_a_folded_segmentor_is_the_same_to_1e_5(arm, channels_last, draw_norms):
    torch.manual_seed(0)
    name = f"{arm}r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
    model = build_model(load_config(str(CONFIGS / name)))
    draw_norms(model)
    x = torch.randn(1, 3, 64, 96)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    folded = fold_bn(model)
    assert not has_batch_norm(folded)
    with torch.no_grad():
        expected = model(x)
        error = (folded(x) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5


def test_the_original_is_left_as_it_was():
    layer = ConvModule(4, 6, 3, norm_cfg=dict(type="BN")).train()
    weight = layer.conv.weight.clone()
    fold_bn(layer)
    assert layer.training
    assert layer.conv.bias is None
    assert torch.equal(layer.conv.weight, weight)


def test_a_norm_that_no_convolution_feeds_stays():
    network = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU(),
                            nn.BatchNorm2d(4))  # fmt: skip
    kinds = [type(m) for m in fold_bn(network)]
    assert kinds == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]


def test_a_norm_without_statistics_is_refused():
    network = nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
    )
    with pytest.raises(ValueError, match="track_running_stats=False"):
        fold_bn(network)


@pytest.mark.parametrize(
    "order",
    [("conv", "norm", "act"), ("norm", "act", "conv"), ("conv", "act", "norm")],
)
def test_a_conv_module_is_folded_where_its_order_allows_it(order, draw_norms):
    torch.manual_seed(0)
    arguments = dict(in_channels=4, out_channels=4, kernel_size=1, order=order)
    x, coeff = torch.randn(2, 4, 5, 5), torch.rand(2, 4, 3)
    for module, inputs in (
        (ConvModule(norm_cfg=dict(type="BN"), **arguments), (x,)),
        (
            DyConvModule(norm_cfg=dict(type="BN"), num_kernels=3, **arguments),
            (x, coeff),
        ),
    ):
        draw_norms(module)
        module.eval()
        folded = fold_bn(module)
        torch.testing.assert_close(folded(*inputs), module(*inputs))
        assert has_batch_norm(folded) == (order != ("conv", "norm", "act"))
