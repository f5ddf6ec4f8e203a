"""What the tests of the backbones share, as fixtures that are functions."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.ops import CoefficientPredictor


@pytest.fixture
def make_equal() -> Callable[[nn.Module, nn.Module], None]:
    """Give a one-kernel dynamic network the static one's weights; coefficients at 1.

    Norms are drawn first, so that none is the identity.
    """

    def make(dynamic: nn.Module, static: nn.Module) -> None:
        for norm in static.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias)
                nn.init.normal_(norm.running_mean, std=0.1)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)
        for module in dynamic.modules():
            if isinstance(module, CoefficientPredictor):
                nn.init.zeros_(module.logits.weight)
                nn.init.constant_(module.logits.bias, 100)  # its sigmoid is 1
        ours = {k: v for k, v in dynamic.state_dict().items() if ".predictor." not in k}
        theirs = static.state_dict()
        for ours_name, theirs_name in zip(ours, theirs, strict=True):
            # conv.weight, bn.running_mean, ...: the networks name their stages alone
            assert ours_name.split(".")[-2:] == theirs_name.split(".")[-2:]
            ours[ours_name].copy_(theirs[theirs_name].view_as(ours[ours_name]))

    return make


@pytest.fixture
def count_macs() -> Callable[..., int]:
    """Build a network without memory for it, and count its MACs for a 224x224 image."""

    def count(network: type[nn.Module], *args, **kwargs) -> int:
        with torch.device("meta"):
            model = network(*args, **kwargs).eval()
            x = torch.empty(1, 3, 224, 224)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(x)
        return counter.get_total_flops() // 2

    return count
