"""What is timed is what is claimed: the whole network, a whole step, its parts."""

import pytest
import torch
from torch import nn

from mmseg_dynet.analysis import benchmark
from mmseg_dynet.analysis.benchmark import (
    Spread,
    draw_sweep,
    dynamic_shares,
    inference_call,
    stopwatch,
    training_call,
)
from mmseg_dynet.ops import DyConv2d


def test_spread_is_median_and_quartiles_in_milliseconds():
    spread = Spread.of([0.005, 0.001, 0.003, 0.002, 0.004])
    assert (spread.first, spread.median, spread.third) == (2.0, 3.0, 4.0)
    assert str(spread) == "3.0 ± 1.0"


@pytest.mark.parametrize("compiled", (False, True))
def test_inference_runs_the_network(compiled):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 1).eval()
    x = torch.rand(1, 3, 5, 5)
    out = inference_call(network, x, compiled)()
    torch.testing.assert_close(out, network(x))
    assert out.is_inference()


def test_a_training_step_is_the_one_written_by_hand(monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten()).eval()
    x = torch.rand(5, 3, 2, 2)
    labels = torch.tensor([0, 1, 2, 3, 0])
    monkeypatch.setattr(
        benchmark.torch, "randint",
        lambda *_, **__: labels.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2),
    )  # fmt: skip
    weight = network[0].weight.detach().clone()
    loss = nn.functional.cross_entropy(network(x), labels)
    (gradient,) = torch.autograd.grad(loss, [network[0].weight])
    training_call(network, x, num_classes=4)()
    assert network.training
    torch.testing.assert_close(network[0].weight.detach(), weight - 1e-6 * gradient)


def test_the_stopwatch_splits_time_by_a_clock_of_its_own(monkeypatch):
    """A clock that ticks once a reading: each call of a part lasts one tick."""
    clock = iter(range(100))
    monkeypatch.setattr(benchmark, "perf_counter", lambda: next(clock))
    network = nn.Sequential(DyConv2d(3, 4, 1), DyConv2d(4, 2, 1)).eval()
    x = torch.rand(1, 3, 5, 5)
    with stopwatch(network) as seconds:
        network(x)
    assert seconds == {"prediction": 2, "fusion": 2}
    network(x)
    assert seconds == {"prediction": 2, "fusion": 2}
    # Four readings a layer: 3 x 2 x 4, and one before and after all.
    shares = dynamic_shares(network, x, repeats=3)
    assert shares == {"prediction": 6 / 25, "fusion": 6 / 25}


def test_the_sweep_draws_every_size_and_both_ratios():
    records = [
        dict(
            static="a", dynamic="b", shape=[1, 3, side, 2 * side], static_ms=4.0 * side,
            dynamic_ms=2.0 * side, static_quartiles_ms=[3.0 * side, 5.0 * side],
            dynamic_quartiles_ms=[side, 3.0 * side], ratio=2.0, mac_ratio=3.0,
        )
        for side in (64, 128)
    ]  # fmt: skip
    latency, ratio = draw_sweep(records).axes
    static, dynamic = (line.get_ydata() for line in latency.lines)
    assert list(static) == [256, 512]
    assert list(dynamic) == [128, 256]
    measured, macs = (line.get_ydata() for line in ratio.lines)
    assert list(measured) == [2, 2]
    assert list(macs) == [3, 3]
    assert [text.get_text() for text in ratio.get_xticklabels()] == [
        "64 x 128",
        "128 x 256",
    ]
