"""Mixed precision: bfloat16 inside the context, float32 weights and gradients."""

import torch
from mmengine.optim import build_optim_wrapper
from torch import nn


def test_computes_in_bfloat16_and_updates_in_float32():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    wrapper = build_optim_wrapper(
        model, dict(type="BFloat16OptimWrapper", optimizer=dict(type="SGD", lr=0.5))
    )
    x = torch.randn(3, 4)
    with wrapper.optim_context(model):
        out = model(x)
        loss = out.float().sum()
    assert out.dtype == torch.bfloat16
    assert model(x).dtype == torch.float32
    wrapper.update_params(loss)
    gradient = x.bfloat16().float().sum(0)
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(
        before - model.weight, 0.5 * gradient.expand(2, 4), rtol=1e-2, atol=1e-2
    )
