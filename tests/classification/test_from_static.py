"""MobileNetV3 as torchvision and mmpretrain themselves build it, made dynamic."""

from collections.abc import Callable

import pytest
import torch
import torchvision.models
from mmpretrain.models.backbones import MobileNetV3
from torch import Tensor, nn

from mmseg_dynet.models import DyMobileNetV3
from mmseg_dynet.models.from_static import to_dynamic


def assert_computes_the_same(
    weights: dict[str, Tensor], backbone: dict, static: Callable[[Tensor], Tensor]
) -> None:
    """Build a converted backbone as its config says, and compare its outputs."""
    dynamic = DyMobileNetV3(**{k: v for k, v in backbone.items() if k != "type"})
    nn.ModuleDict(dict(backbone=dynamic)).load_state_dict(weights)
    dynamic.eval()
    for size in ((64, 96), (65, 98)):
        x = torch.randn(2, 3, *size)
        with torch.inference_mode():
            (ours,), theirs = dynamic(x), static(x)
        assert theirs.std() > 0.01  # else all would be close
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ["small", "large"])
def test_torchvisions_mobilenet_v3(arch, draw_norms):
    torch.manual_seed(0)
    network = getattr(torchvision.models, f"mobilenet_v3_{arch}")()
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    assert conversion.source == f"torchvision's MobileNetV3 {arch}"
    assert_computes_the_same(
        conversion.state_dict, conversion.backbone, network.features
    )


@pytest.mark.parametrize("arch", ["small", "large"])
def test_mmpretrains_mobilenet_v3(arch, draw_norms):
    torch.manual_seed(0)
    network = MobileNetV3(arch)
    draw_norms(network)
    network.eval()
    conversion = to_dynamic(network.state_dict(), num_kernels=2)
    assert_computes_the_same(
        conversion.state_dict,
        conversion.mmpretrain_backbone,
        lambda x: network(x)[-1],
    )
