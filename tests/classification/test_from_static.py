"""Networks that torchvision and mmpretrain themselves build, made dynamic."""

from collections.abc import Callable

import pytest
import torch
import torchvision.models
from mmengine.registry import MODELS
from mmpretrain.models import backbones
from torch import Tensor, nn

from mmseg_dynet.models.from_static import to_dynamic


def assert_computes_the_same(
    weights: dict[str, Tensor],
    backbone: dict,
    static: Callable[[Tensor], Tensor],
    **options,
) -> None:
    """Build a converted backbone from its config, and compare its last output."""
    dynamic = MODELS.build(dict(backbone, **options))
    nn.ModuleDict(dict(backbone=dynamic)).load_state_dict(weights)
    dynamic.eval()
    for size in ((64, 96), (65, 98)):
        x = torch.randn(2, 3, *size)
        with torch.inference_mode():
            ours, theirs = dynamic(x)[-1], static(x)
        assert theirs.std() > 0.01  # else all would be close
        atol = 1e-5 * theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("resnet18", "ResNet 18"),
        ("resnet50", "ResNet 50"),
        ("mobilenet_v2", "torchvision's MobileNetV2"),
        ("mobilenet_v3_small", "torchvision's MobileNetV3 small"),
        ("mobilenet_v3_large", "torchvision's MobileNetV3 large"),
    ],
)
def test_torchvisions_networks(name, source, draw_norms):
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)()
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    assert conversion.source == source
    assert all(name.startswith("backbone.") for name in conversion.state_dict)
    if name.startswith("resnet"):
        features = nn.Sequential(*list(network.children())[:-2])
    else:
        features = network.features
    options = dict(out_indices=(7,)) if name == "mobilenet_v2" else {}
    assert_computes_the_same(
        conversion.state_dict, conversion.backbone, features, **options
    )


@pytest.mark.parametrize(
    ("static", "options"),
    [
        (backbones.ResNet, dict(depth=18)),
        (backbones.ResNetV1c, dict(depth=50)),
        (backbones.ResNetV1d, dict(depth=18)),
        (backbones.MobileNetV2, dict()),
        (backbones.MobileNetV3, dict(arch="small")),
        (backbones.MobileNetV3, dict(arch="large")),
    ],
    ids=["r18", "v1c-r50", "v1d-r18", "v2", "v3-small", "v3-large"],
)
def test_mmpretrains_networks(static, options, draw_norms):
    torch.manual_seed(0)
    network = static(**options)
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    last = dict(out_indices=(7,)) if static is backbones.MobileNetV2 else {}
    weights = conversion.state_dict

    def run(x):
        return network(x)[-1]

    backbone = conversion.mmpretrain_backbone or conversion.backbone
    assert_computes_the_same(weights, backbone, run, **last)
    # No option in which mmpretrain's network differs from MMSegmentation's is idle.
    for option in backbone.keys() - conversion.backbone.keys():
        others = {key: value for key, value in backbone.items() if key != option}
        with pytest.raises(AssertionError, match="not close"):
            assert_computes_the_same(weights, others, run)
