"""The model's weights, banks included, are laid out in channels_last, values kept."""

from types import SimpleNamespace

import torch
from mmengine.registry import HOOKS
from torch import nn

from mmseg_dynet.models import DyResNet


def test_weights_change_their_format_and_not_their_values():
    torch.manual_seed(0)
    model = DyResNet(18).eval()
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        expected = model(x)
    parameters = list(model.parameters())
    hook = HOOKS.build(dict(type="ChannelsLastHook"))
    hook.before_run(SimpleNamespace(model=nn.DataParallel(model)))
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    bank = model.layer1[0].conv1.weight
    for weight in (model.conv1.weight, bank.flatten(0, 1)):
        assert weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for out, before in zip(model(x), expected, strict=True):
            assert out.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(out, before, rtol=1e-4, atol=1e-4)
