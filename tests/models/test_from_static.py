"""A dynamic network begins as the static one whose weights it was given, then moves."""

import pytest
import torch
from mmengine.registry import MODELS
from mmseg.models.backbones import (
    MobileNetV2,
    MobileNetV3,
    ResNet,
    ResNetV1c,
    ResNetV1d,
)
from torch import nn

from mmseg_dynet.models.from_static import to_dynamic
from mmseg_dynet.ops import DyConv2d

# Output stride 8; the host's MobileNets have it by default.
RESNET = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
SMALL = dict(strides=(2, 2, 1, 1, 1), dilations=(1, 1, 2, 2, 4))
LARGE = dict(strides=(1, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4))
ODCONV = dict(
    granularity="product", normaliser="softmax", static_kernel=True, centred=True
)
L1 = dict(granularity="kernel", normaliser="l1")
# Static networks by their source, options of the conversion, and those of the dynamic
# backbone that no weight shows.
CASES = {
    "ResNet 34": (
        lambda: ResNet(34, base_channels=16, **RESNET), dict(num_kernels=1), RESNET,
    ),
    "ResNet 50": (lambda: ResNet(50, base_channels=16, **RESNET), {}, RESNET),
    "ResNetV1c 18": (
        lambda: ResNetV1c(depth=18, base_channels=16, **RESNET),
        dict(num_kernels=3, coefficients=ODCONV),
        RESNET,
    ),
    "ResNetV1c 101": (
        lambda: ResNetV1c(depth=101, base_channels=8, in_channels=1), {}, {},
    ),
    "ResNetV1d 50": (
        lambda: ResNetV1d(depth=50, base_channels=8),
        dict(num_kernels=3, coefficients=L1),
        {},
    ),
    "OpenMMLab's MobileNetV2": (MobileNetV2, dict(num_kernels=2), {}),
    "OpenMMLab's MobileNetV3 small": (
        lambda: MobileNetV3("small", out_indices=(12,)), dict(num_kernels=2), SMALL,
    ),
    "OpenMMLab's MobileNetV3 large": (
        lambda: MobileNetV3("large", out_indices=(16,)), dict(num_kernels=2), LARGE,
    ),
}  # fmt: skip


def dynamic_of(conversion, **options) -> nn.Module:
    """Build the backbone of a conversion, as its config says, and load its weights."""
    network = MODELS.build(dict(conversion.backbone, **options))
    weights = {
        name.removeprefix("backbone."): weight
        for name, weight in conversion.state_dict.items()
        if name.startswith("backbone.")
    }
    network.load_state_dict(weights)
    return network.eval()


def assert_equal_outputs(dynamic, static):
    x = torch.randn(2, next(static.parameters()).shape[1], 64, 96)
    with torch.inference_mode():
        ours, theirs = dynamic(x), tuple(static(x))
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert their.std() > 0.01  # else all would be close
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("source", CASES)
def test_the_dynamic_network_starts_out_equal(source, draw_norms):
    build, options, unseen = CASES[source]
    torch.manual_seed(0)
    static = build()
    draw_norms(static)
    static.eval()
    conversion = to_dynamic(static.state_dict(), **options)
    assert conversion.source == source
    assert conversion.backbone.items() >= options.items()
    assert_equal_outputs(dynamic_of(conversion, **unseen), static)


def test_a_classifier_of_torchvision_and_one_of_mmpretrain(draw_norms):
    torch.manual_seed(0)
    network = ResNetV1c(depth=18, base_channels=8)
    draw_norms(network)
    network.eval()
    weights = network.state_dict()
    fc = dict(weight=torch.rand(10, 64), bias=torch.rand(10))
    plain = to_dynamic(weights | {f"fc.{k}": v for k, v in fc.items()})
    assert all(name.startswith("backbone.") for name in plain.state_dict)

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
    kept = [n for n in conversion.state_dict if not n.startswith("backbone.")]
    assert kept == ["head.fc.weight", "head.fc.bias"]
    assert conversion.state_dict["head.fc.weight"] is fc["weight"]
    assert_equal_outputs(dynamic_of(conversion), network)
    for name, weight in plain.state_dict.items():
        assert torch.equal(weight, conversion.state_dict[name])


@pytest.mark.parametrize(
    ("network", "mark", "source"),
    [
        (MobileNetV2, "features.1.conv.0.0.weight", "MobileNetV2"),
        (MobileNetV3, "features.1.block.0.0.weight", "MobileNetV3 small"),
    ],
)
def test_torchvisions_layout_is_the_order_of_openmmlabs(network, mark, source):
    """Its own networks are in tests/classification."""
    weights = network().state_dict()
    names = [f"features.{i}.{name.split('.')[-1]}" for i, name in enumerate(weights)]
    names[6] = mark  # of the first convolution after the stem and its norm
    if source.endswith("small"):  # whose last layer has number 12
        names = [name.replace("features.13.", "features.x.") for name in names]
    got = to_dynamic(dict(zip(names, weights.values(), strict=True)))
    expected = to_dynamic(weights)
    assert got.source == f"torchvision's {source}"
    assert got.mmpretrain_backbone is None
    if expected.mmpretrain_backbone:
        assert got.backbone == expected.mmpretrain_backbone
    assert all(map(torch.equal, got.state_dict.values(), expected.state_dict.values()))


def test_the_bank_around_a_kernel_has_the_usual_deviation():
    torch.manual_seed(0)
    kernel = torch.randn(64, 32, 3, 3) * torch.linspace(0.1, 1, 64).view(-1, 1, 1, 1)
    conv = DyConv2d(32, 64, 3)
    bank = conv.bank_around(kernel)
    # DyConv2d initialises kernels with 2 / sqrt(K) times the static deviation.
    expected = 2 / 6**0.5 * kernel.std((1, 2, 3))
    torch.testing.assert_close(bank.std((1, 2, 3, 4)), expected, rtol=0.1, atol=0)


def steps_apart(network: nn.Module, num_steps: int = 3) -> list[float]:
    """Train; return by how much of its movement the kernels of each bank differ."""
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


@pytest.mark.parametrize("kind", [ResNet, ResNetV1c])
def test_equal_names_may_come_in_any_order(kind):
    weights = kind(depth=18, base_channels=8).state_dict()
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
            lambda w: {n: w[n] for n in w if n != "conv1.weight"},
            r"have bn1\.weight \(64,\) where conv1\.weight \(64, 3, 7, 7\) is",
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
    ids=["shape", "stem", "missing", "too many", "too few", "depth", "prefix"],
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
