"""Mixed precision: bfloat16 inside the context, float32 weights and gradients."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmseg_dynet.engine import optim_wrapper as optim


def wrap(model: nn.Module, **options):
    """A wrapper around plain SGD with a rate of one half."""
    config = dict(type="BFloat16OptimWrapper", optimizer=dict(type="SGD", lr=0.5))
    return build_optim_wrapper(model, config | options)


def test_computes_in_bfloat16_and_updates_in_float32():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    wrapper = wrap(model, emulate=True)
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


@pytest.mark.recent_torch
@pytest.mark.parametrize(
    ("machine", "avx512", "amx", "expected"),
    [("x86_64", False, False, False), ("x86_64", True, False, True),
     ("AMD64", False, True, True), ("aarch64", False, False, True)],
)  # fmt: skip
def test_processors_that_compute_in_bfloat16(
    machine, avx512, amx, expected, monkeypatch
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(optim.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert optim.computes_bfloat16("cpu") == expected


@pytest.mark.parametrize("native", [True, False])
def test_without_arithmetic_for_bfloat16_it_is_float32(native, monkeypatch, caplog):
    monkeypatch.setattr(optim, "computes_bfloat16", lambda device_type: native)
    logger = MMLogger.get_current_instance()  # which does not propagate
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    model = nn.Linear(4, 2)
    with wrap(model).optim_context(model):
        out = model(torch.randn(3, 4))
    assert out.dtype == (torch.bfloat16 if native else torch.float32)
    warning = "CPU does not compute in bfloat16: training in float32"
    assert (warning in caplog.text) != native
