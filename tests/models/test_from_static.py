"""A dynamic network begins as the static one whose weights it was given, then moves."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from mmseg.models.backbones import (
    MobileNetV2,
    MobileNetV3,
    ResNet,
    ResNetV1c,
    ResNetV1d,
)
from mmseg.models.utils import make_divisible
from torch import nn

from mmseg_dynet.models import DyMobileNetV2, DyMobileNetV3, DyResNet
from mmseg_dynet.models.from_static import bank_around, to_dynamic
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

NETWORKS = dict(
    DyMobileNetV2=DyMobileNetV2, DyMobileNetV3=DyMobileNetV3, DyResNet=DyResNet
)
# Output stride 8, as MMSegmentation's MobileNetV3 has it.
DILATED_V3 = dict(
    small=dict(strides=(2, 2, 1, 1, 1), dilations=(1, 1, 2, 2, 4)),
    large=dict(strides=(1, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4)),
)


def dynamic_of(conversion, **options) -> nn.Module:
    """Build the backbone of a conversion, as its config says, and load its weights."""
    config = dict(conversion.backbone)
    network = NETWORKS[config.pop("type")](**config, **options)
    weights = {
        name.removeprefix("backbone."): weight
        for name, weight in conversion.state_dict.items()
        if name.startswith("backbone.")
    }
    network.load_state_dict(weights)
    return network.eval()


def conv_norm(inp, out, kernel=1, stride=1, groups=1, act=nn.Identity, eps=1e-5):
    """Torchvision's packed convolution: its names are 0 and 1."""
    conv = nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out, eps=eps), act())


class Residual(nn.Module):
    """A block of torchvision's MobileNets; its chain has the name given."""

    def __init__(self, name: str, *layers: nn.Module, shortcut: bool) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(*layers))
        self.shortcut = shortcut

    def forward(self, x):
        (chain,) = self.children()
        return x + chain(x) if self.shortcut else chain(x)


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = make_divisible(channels // 4, 8)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        context = self.fc1(x.mean((2, 3), keepdim=True)).relu()
        return x * nn.functional.hardsigmoid(self.fc2(context))


class Classifier(nn.Module):
    def __init__(self, features: list[nn.Module], *classifier: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*classifier)


def torchvision_mobilenet_v2() -> nn.Module:
    """The structure and the names of torchvision's MobileNetV2."""
    layer = partial(conv_norm, act=nn.ReLU6)
    features, inp = [layer(3, 32, 3, 2)], 32
    for expansion, out, num_blocks, first_stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
        (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for i in range(num_blocks):
            mid, stride = inp * expansion, first_stride if i == 0 else 1
            layers = [
                layer(mid, mid, 3, stride, groups=mid),
                nn.Conv2d(mid, out, 1, bias=False),
                nn.BatchNorm2d(out),
            ]
            if expansion > 1:
                layers.insert(0, layer(inp, mid))
            shortcut = stride == 1 and inp == out
            features.append(Residual("conv", *layers, shortcut=shortcut))
            inp = out
    features.append(layer(inp, 1280))
    return Classifier(features, nn.Dropout(), nn.Linear(1280, 10))


def torchvision_mobilenet_v3(arch: str) -> nn.Module:
    """The structure and the names of torchvision's MobileNetV3."""
    layer = partial(conv_norm, eps=1e-3)
    features, inp = [layer(3, 16, 3, 2, act=nn.Hardswish)], 16
    for kernel, mid, out, squeeze, act, stride in MobileNetV3.arch_settings[arch]:
        act = dict(ReLU=nn.ReLU, HSwish=nn.Hardswish)[act]
        layers = [layer(inp, mid, act=act)] if mid != inp else []
        layers.append(layer(mid, mid, kernel, stride, groups=mid, act=act))
        if squeeze:
            layers.append(Squeeze(mid))
        layers.append(layer(mid, out))
        shortcut = stride == 1 and inp == out
        features.append(Residual("block", *layers, shortcut=shortcut))
        inp = out
    features.append(layer(inp, 6 * inp, act=nn.Hardswish))
    return Classifier(features, nn.Linear(6 * inp, 8), nn.Linear(8, 10))


def assert_equal_outputs(dynamic, static, size=(64, 96), channels=3):
    x = torch.randn(2, channels, *size)
    with torch.inference_mode():
        ours, theirs = dynamic(x), tuple(static(x))
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert their.std() > 0.01  # else all would be close
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_kernels", [1, 6])
@pytest.mark.parametrize(
    ("static", "options"),
    [
        (ResNet, dict(depth=34, base_channels=16)),
        (ResNet, dict(depth=50, base_channels=16)),
        (ResNetV1c, dict(depth=18, base_channels=16)),
        (ResNetV1c, dict(depth=101, base_channels=8, in_channels=1)),
        (ResNetV1d, dict(depth=50, base_channels=8)),
    ],
    ids=["r34", "r50", "v1c-r18", "v1c-r101", "v1d-r50"],
)
def test_resnet(static, options, num_kernels, draw_norms):
    torch.manual_seed(0)
    dilated = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    network = static(**options, **dilated)
    draw_norms(network)
    network.eval()  # of which the host returns None
    conversion = to_dynamic(network.state_dict(), num_kernels)
    assert conversion.source == f"{static.__name__} {options['depth']}"
    assert conversion.backbone["num_kernels"] == num_kernels
    assert conversion.backbone["base_channels"] == options["base_channels"]
    channels = options.get("in_channels", 3)
    assert_equal_outputs(dynamic_of(conversion, **dilated), network, channels=channels)


def test_a_classifier_of_torchvision_and_one_of_mmpretrain(draw_norms):
    torch.manual_seed(0)
    network = ResNetV1c(depth=18, base_channels=8)
    draw_norms(network)
    network.eval()
    weights = network.state_dict()
    fc = dict(weight=torch.rand(10, 64), bias=torch.rand(10))
    plain = to_dynamic(weights | {f"fc.{k}": v for k, v in fc.items()})
    assert plain.left_out == ("fc.weight", "fc.bias")
    assert plain.passed == ()

    # mmpretrain's stem: three packed convolutions instead of 0, 1, 3, 4, 6, 7.
    packed = {"0": "0.conv", "1": "0.bn", "3": "1.conv", "4": "1.bn", "6": "2.conv",
              "7": "2.bn"}  # fmt: skip
    renamed = {}
    for name, weight in weights.items():
        parts = name.split(".")
        if parts[0] == "stem":
            parts[1] = packed[parts[1]]
        renamed["backbone." + ".".join(parts)] = weight
    renamed |= {f"head.fc.{k}": v for k, v in fc.items()}
    conversion = to_dynamic(renamed)
    assert conversion.source == "mmpretrain's ResNetV1c 18"
    assert conversion.passed == ("head.fc.weight", "head.fc.bias")
    assert conversion.state_dict["head.fc.weight"] is fc["weight"]
    assert_equal_outputs(dynamic_of(conversion), network)
    for name, weight in plain.state_dict.items():
        assert torch.equal(weight, conversion.state_dict[name])


def test_mobilenet_v2_of_openmmlab(draw_norms):
    torch.manual_seed(0)
    network = MobileNetV2()
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    assert conversion.source == "OpenMMLab's MobileNetV2"
    assert_equal_outputs(dynamic_of(conversion), network)


def test_mobilenet_v2_of_torchvision(draw_norms):
    torch.manual_seed(0)
    network = torchvision_mobilenet_v2()
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    assert conversion.source == "torchvision's MobileNetV2"
    assert conversion.left_out == ("classifier.1.weight", "classifier.1.bias")
    dynamic = dynamic_of(conversion, out_indices=(7,))
    assert_equal_outputs(dynamic, lambda x: [network.features(x)])

    # mmpretrain has MMSegmentation's names, and this last convolution as conv2.
    openmmlab = MobileNetV2().state_dict() | {
        f"conv2.{part}.{kind}": weight
        for part, theirs in (("conv", "0"), ("bn", "1"))
        for kind, weight in network.features[18][int(theirs)].state_dict().items()
    }
    again = to_dynamic({f"backbone.{k}": v for k, v in openmmlab.items()})
    last = "backbone.stages.7.0.conv.weight"
    assert torch.equal(again.state_dict[last], conversion.state_dict[last])


@pytest.mark.parametrize("arch", ["small", "large"])
def test_mobilenet_v3_of_openmmlab(arch, draw_norms):
    torch.manual_seed(0)
    last = len(MobileNetV3.arch_settings[arch]) + 1
    network = MobileNetV3(arch, out_indices=(last,))
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    assert conversion.source == f"OpenMMLab's MobileNetV3 {arch}"
    assert set(conversion.backbone) == {"type", "arch", "num_kernels"}
    assert_equal_outputs(dynamic_of(conversion, **DILATED_V3[arch]), network)


@pytest.mark.parametrize("arch", ["small", "large"])
def test_mobilenet_v3_of_torchvision(arch, draw_norms):
    torch.manual_seed(0)
    network = torchvision_mobilenet_v3(arch)
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    assert conversion.source == f"torchvision's MobileNetV3 {arch}"
    assert conversion.mmpretrain_backbone is None
    assert len(conversion.left_out) == 4
    dynamic = dynamic_of(conversion)
    for size in ((64, 96), (65, 98)):
        assert_equal_outputs(dynamic, lambda x: [network.features(x)], size)


@pytest.mark.parametrize("arch", ["small", "large"])
def test_mobilenet_v3_of_mmpretrain(arch, draw_norms):
    """It has MMSegmentation's names, and torchvision's padding and norms."""
    torch.manual_seed(0)
    network = torchvision_mobilenet_v3(arch)
    draw_norms(network)
    network.eval()
    values = network.features.state_dict().values()
    names = (f"backbone.{name}" for name in MobileNetV3(arch).state_dict())
    conversion = to_dynamic(dict(zip(names, values, strict=True)), num_kernels=2)
    assert conversion.source == f"OpenMMLab's MobileNetV3 {arch}"
    backbone = conversion.mmpretrain_backbone
    dynamic = dynamic_of(replace(conversion, backbone=backbone))
    assert_equal_outputs(dynamic, lambda x: [network.features(x)])

    # Neither of the two options is idle.
    for option in backbone.keys() - conversion.backbone.keys():
        others = {k: v for k, v in backbone.items() if k != option}
        dynamic = dynamic_of(replace(conversion, backbone=others))
        with pytest.raises(AssertionError, match="not close"):
            assert_equal_outputs(dynamic, lambda x: [network.features(x)])


def test_the_bank_fuses_to_the_kernel_and_lies_as_a_drawn_one():
    torch.manual_seed(0)
    kernel = torch.randn(64, 32, 3, 3) * torch.linspace(0.1, 1, 64).view(-1, 1, 1, 1)
    bank = bank_around(kernel, 6, noise=1)
    torch.testing.assert_close(bank.sum(1) / 2, kernel)
    # DyConv2d draws kernels of 2 / sqrt(K) times the deviation of the static one.
    drawn = 2 / 6**0.5 * kernel.std((1, 2, 3))
    torch.testing.assert_close(bank.std((1, 2, 3, 4)), drawn, rtol=0.1, atol=0)
    assert torch.equal(bank_around(kernel, 6, noise=0), kernel[:, None].repeat(
        1, 6, 1, 1, 1) * (2 / 6))  # fmt: skip
    torch.testing.assert_close(bank_around(kernel, 1, noise=1)[:, 0], 2 * kernel)


def test_predictors_are_even_at_first_and_learn():
    network = dynamic_of(to_dynamic(ResNet(18, base_channels=8).state_dict(), 3))
    predictors = [m for m in network.modules() if isinstance(m, CoefficientPredictor)]
    assert len(predictors) == 8
    for predictor in predictors:
        assert predictor.hidden.weight.std() > 0
        coeffs = predictor(torch.randn(2, predictor.hidden.in_features, 4, 4))
        assert all(torch.equal(c, torch.full_like(c, 0.5)) for c in coeffs)


def steps_apart(network: nn.Module, num_steps: int = 3) -> list[float]:
    """Train, and return how much of each bank's way its kernels did not go together."""
    banks = [m.weight for m in network.modules() if isinstance(m, DyConv2d)]
    before = [bank.detach().clone() for bank in banks]
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.02, momentum=0.9)
    x, target = torch.randn(4, 3, 32, 32), torch.randn(4, 64, 1, 1)
    for _ in range(num_steps):
        optimizer.zero_grad()
        (network(x)[-1] - target).square().mean().backward()
        optimizer.step()
    ways = [bank.detach() - start for bank, start in zip(banks, before, strict=True)]
    return [((w - w.mean(1, keepdim=True)).norm() / w.norm()).item() for w in ways]


def test_kernels_separate_in_training_and_equal_ones_never_would():
    torch.manual_seed(0)
    weights = ResNet(18, base_channels=8).state_dict()
    noisy, even = (dynamic_of(to_dynamic(weights, 3)) for _ in range(2))
    for module in even.modules():
        if isinstance(module, DyConv2d):
            module.weight.data.copy_(module.weight.mean(1, keepdim=True))
    noisy, even = steps_apart(noisy), steps_apart(even)
    assert len(noisy) == len(even) == 16
    # Coefficients leave 1/2 slowly. Equal kernels part by rounding only.
    assert max(even) < 1e-6
    assert min(noisy) > 50 * max(even)


def test_the_seed_decides_and_random_numbers_are_left_alone():
    weights = ResNet(18, base_channels=8).state_dict()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, again, other = (to_dynamic(weights, seed=s).state_dict for s in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("conv1.weight", "predictor.hidden.weight", "predictor.hidden.bias"):
        assert not torch.equal(
            *(d[f"backbone.layer1.0.{name}"] for d in (first, other))
        )


def test_equal_names_may_come_in_any_order():
    weights = ResNet(18, base_channels=8).state_dict()
    expected = to_dynamic(weights).state_dict
    got = to_dynamic(dict(sorted(weights.items()))).state_dict
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda w: w | {"layer2.0.bn1.bias": torch.rand(3)},
            r"for ResNet 18, .* layer2\.0\.bn1\.bias \(3,\) where layer2\.0\.bn1\.bias "
            r"\(16,\) is expected.*MobileNetV2.*",
        ),
        (
            lambda w: {n: w[n] for n in w if n != "layer2.0.bn1.bias"},
            r"have layer2\.0\.bn1\.running_mean \(16,\) where layer2\.0\.bn1\.bias ",
        ),
        (
            lambda w: w | {"layer5.weight": torch.rand(3)},
            r"have layer5\.weight \(3,\) where nothing  is expected",
        ),
        (
            lambda w: {n: w[n] for n in w if not n.startswith("layer4.1.bn2.")},
            r"have nothing  where layer4\.1\.bn2\.weight \(64,\) is expected",
        ),
        (
            lambda w: w | {"layer3.2.conv1.weight": torch.rand(1)},
            r"no ResNet with \(2, 2, 3, 2\) basic blocks",
        ),
        (
            lambda w: {f"encoder.{k}": v for k, v in w.items()},
            r"unknown network, with weights encoder\.conv1\.weight, .*, \.\.\. Known",
        ),
    ],
    ids=["shape", "missing", "too many", "too few", "depth", "prefix"],
)
def test_what_does_not_fit_is_named(change, match):
    weights = ResNet(18, base_channels=8).state_dict()
    with pytest.raises(ValueError, match=match):
        to_dynamic(change(weights))


def test_counters_of_batches_may_be_missing():
    weights = {
        name: weight
        for name, weight in ResNet(18, base_channels=8).state_dict().items()
        if "num_batches" not in name
    }
    dynamic = to_dynamic(weights).state_dict
    assert dynamic["backbone.bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize("options", [dict(num_kernels=0), dict(noise=0)])
def test_a_bad_option_is_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}=0 must be greater than 0"):
        to_dynamic({}, **options)
