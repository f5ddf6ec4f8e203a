"""Timed are whole networks, whole training steps, and their parts."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmseg_dynet.analysis import latency
from mmseg_dynet.analysis.latency import (
    Latency,
    inference_call,
    time_alternating,
    training_call,
)
from mmseg_dynet.apis import build_model, load_config

ROOT = Path(__file__).parents[2]


def test_median_and_quartiles_are_in_milliseconds():
    summary = Latency.of([0.005, 0.001, 0.003, 0.002, 0.004])
    assert (summary.first, summary.median, summary.third) == (2.0, 3.0, 4.0)
    assert str(summary) == "3.0 ± 1.0"
    assert summary.as_dict("a") == {"a_ms": 3.0, "a_quartiles_ms": [2.0, 4.0]}


def test_calls_take_turns_and_the_warm_up_is_left_out(monkeypatch):
    # A clock that ticks once per reading: each timed call lasts one second.
    monkeypatch.setattr(latency, "perf_counter", iter(range(100)).__next__)
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = time_alternating(calls, repeats=3, warmup=1)
    assert "".join(order) == "abababab"
    assert times == dict.fromkeys("ab", Latency(1000, 1000, 1000))


@pytest.mark.parametrize("compiled", (False, True))
def test_inference_runs_the_network(compiled):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 1).eval()
    x = torch.rand(1, 3, 5, 5)
    out = inference_call(network, x, compiled)()
    torch.testing.assert_close(out, network(x))
    assert out.is_inference()


def test_a_training_step_is_the_one_written_by_hand():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten()).double().eval()
    x = torch.rand(5, 3, 2, 2).double()
    weight = network[0].weight.detach().clone()
    torch.manual_seed(1)
    labels = torch.randint(4, (5, 1, 2, 2))[:, 0, 0, 0]
    loss = nn.functional.cross_entropy(network(x), labels)
    (gradient,) = torch.autograd.grad(loss, [network[0].weight])
    torch.manual_seed(1)
    training_call(network, x, num_classes=4)()
    assert network.training
    change = network[0].weight.detach() - weight
    torch.testing.assert_close(change, -1e-6 * gradient, rtol=1e-6, atol=0)


def test_a_training_step_may_compute_in_bfloat16():
    network, seen = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten()), []
    network[0].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    training_call(network, torch.rand(5, 3, 2, 2), 4, torch.bfloat16)()
    assert seen == [torch.bfloat16]


def test_a_training_step_of_pidnet_has_edges():
    config = ROOT / "configs/dynet/dy-pidnet-s_2xb6-120k_1024x1024-cityscapes.py"
    model = build_model(load_config(config))
    training_call(model, torch.rand(2, 3, 64, 64), num_classes=19)()
    assert all(parameter.grad is not None for parameter in model.parameters())
