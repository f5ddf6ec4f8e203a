"""The timer takes turns, leaves the warm-up out, and refuses to time nothing."""

import pytest

from mmseg_dynet.analysis import latency


def test_calls_take_turns_and_the_warm_up_is_left_out(monkeypatch):
    order = []
    clock = iter(range(100))
    monkeypatch.setattr(latency, "perf_counter", lambda: next(clock))
    seconds = latency.time_alternating(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        repeats=3,
        warmup=1,
    )
    assert "".join(order) == "abababab"
    assert seconds == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_no_repeats_are_refused():
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        latency.time_alternating({}, repeats=0)
