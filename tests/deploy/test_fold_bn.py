"""A folded network is the network that it was folded from.

The contract of the backbones says so of each of the package's own.
"""

from pathlib import Path

import pytest
import torch
from mmcv.cnn import ConvModule
from mmseg.models.backbones import MobileNetV2, MobileNetV3, ResNetV1c
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm

from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.deploy import fold_bn
from mmseg_dynet.models.blocks.branch import DyConvModule
from mmseg_dynet.models.dynamize import dynamize
from mmseg_dynet.ops import DyConv2d

CONFIGS = Path(__file__).parents[2] / "configs/dynet"


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(m, _BatchNorm) for m in network.modules())


def check_equal(folded: nn.Module, network: nn.Module, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        out, expected = folded(*inputs), network(*inputs)
    scale = expected.abs().max().item()
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5 * scale)


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


@pytest.mark.parametrize("affine", (True, False))
def test_a_norm_without_a_bias(affine):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6, affine=affine)
    norm.bias = None  # as BatchNorm2d(6, bias=False) of newer versions of torch
    norm.running_mean.normal_()
    network = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), norm).double().eval()
    folded = fold_bn(network)
    assert not has_batch_norm(folded)
    check_equal(folded, network, torch.randn(2, 4, 8, 8, dtype=torch.double))


@pytest.mark.parametrize(
    "build",
    [
        lambda: ResNetV1c(depth=18),
        MobileNetV2,
        lambda: MobileNetV3("small"),
        lambda: dynamize(ResNetV1c(depth=18, base_channels=16)),
    ],
    ids=["resnet18-v1c", "mobilenet-v2", "mobilenet-v3", "dynamized"],
)
def test_a_folded_network_of_the_host_computes_the_same(build, draw_norms):
    torch.manual_seed(0)
    backbone = build()
    draw_norms(backbone)
    backbone.double().eval()
    folded = fold_bn(backbone)
    assert not has_batch_norm(folded)
    x = torch.randn(2, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(tuple(folded(x)), tuple(backbone(x)))


def test_a_folded_segmentor_is_the_same_to_1e_5(draw_norms):
    torch.manual_seed(0)
    name = "dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
    model = build_model(load_config(str(CONFIGS / name)))
    draw_norms(model)
    model = model.to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 64, 96).to(memory_format=torch.channels_last)
    folded = fold_bn(model)
    assert not has_batch_norm(folded)
    check_equal(folded, model, x)


def test_the_original_is_left_as_it_was():
    layer = ConvModule(4, 6, 3, norm_cfg=dict(type="BN")).train()
    weight = layer.conv.weight.clone()
    fold_bn(layer)
    assert layer.training
    assert layer.conv.bias is None
    assert torch.equal(layer.conv.weight, weight)


def test_mmcv_does_not_fold_a_second_time():
    options = dict(norm_cfg=dict(type="BN"), efficient_conv_bn_eval=True)
    layer = nn.Sequential(ConvModule(4, 6, 3, **options)).eval()
    check_equal(fold_bn(layer), layer, torch.randn(1, 4, 5, 5))


class Normalised(nn.Conv2d):
    """A convolution that a user wrote: its weight is not its parameter."""

    def forward(self, x):
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


def _share(network: nn.Sequential) -> nn.Sequential:
    """A second branch, with the same convolution and a norm of its own."""
    return nn.Sequential(
        network, nn.Sequential(nn.Sequential(network[0], nn.BatchNorm2d(4)))
    )


def _tie(network: nn.Sequential) -> nn.Sequential:
    """A second convolution with the same parameter."""
    other = nn.Conv2d(4, 4, 3, padding=1)
    other.weight = network[0].weight
    return nn.Sequential(network, other)


def _hook(network: nn.Sequential, place: int = 0) -> nn.Sequential:
    network[place].register_forward_hook(lambda _, __, out: out.relu())
    return network


def _replace_forward(network: nn.Sequential) -> nn.Sequential:
    forward = network[0].forward
    network[0].forward = lambda x: forward(x).relu()
    return network


class TwoNorms(nn.Sequential):
    """A convolution with a norm per domain."""

    def forward(self, x):
        x = self[0](x)
        return self[1](x) + self[2](x)


CHANGED = {
    "ConvWS": dict(type="ConvWS"),
    "ConvAWS": dict(type="ConvAWS"),
    "subclass": dict(type=Normalised),
    "spectral norm": spectral_norm,
    "parametrization": weight_norm,
    "hook": _hook,
    "hook of the norm": lambda network: _hook(network, 1),
    "replaced forward": _replace_forward,
    "shared convolution": _share,
    "tied weight": _tie,
    "two norms": lambda network: TwoNorms(*network, nn.BatchNorm2d(4)),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_convolution_that_is_more_than_its_weight_is_left_alone(change, draw_norms):
    torch.manual_seed(0)
    conv_cfg = change if isinstance(change, dict) else None
    module = ConvModule(
        4, 4, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=dict(type="BN"), act_cfg=None
    )
    network = nn.Sequential(module.conv, module.norm)
    if change in (spectral_norm, weight_norm):
        change(network[0])
    elif conv_cfg is None:
        network = change(network)
    draw_norms(network)
    network.eval()
    folded = fold_bn(network)
    assert has_batch_norm(folded)
    check_equal(folded, network, torch.randn(1, 4, 9, 9))


def test_a_norm_that_no_convolution_feeds_stays():
    network = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU(),
                            nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1),
                            nn.BatchNorm2d(4, track_running_stats=False))  # fmt: skip
    network.extend([nn.Conv2d(4, 4, 1), network[2], nn.BatchNorm2d(4)])  # one ReLU
    network.extend([nn.Conv2d(4, 8, 1), nn.BatchNorm2d(4)])  # of other channels
    assert list(map(type, fold_bn(network))) == list(map(type, network))


@pytest.mark.parametrize(
    "order", [("conv", "norm", "act"), ("norm", "act", "conv"), ("conv", "act", "norm")]
)
def test_a_conv_module_is_folded_where_its_order_allows_it(order, draw_norms):
    torch.manual_seed(0)
    options = dict(norm_cfg=dict(type="BN"), order=order)
    x, coeff = torch.randn(2, 4, 5, 5), torch.rand(2, 4, 3)
    for module, inputs in (
        (ConvModule(4, 4, 1, **options), (x,)),
        (DyConvModule(4, 4, 1, num_kernels=3, **options), (x, coeff)),
    ):
        draw_norms(module)
        module.eval()
        folded = fold_bn(module)
        check_equal(folded, module, *inputs)
        assert has_batch_norm(folded) == (order != ("conv", "norm", "act"))
