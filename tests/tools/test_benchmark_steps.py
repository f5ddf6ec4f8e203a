"""The steps to a fast network: a row each, both sides where both can take it."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/analysis_tools/benchmark_steps.py"
NAME = "configs/dynet/{}r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


def test_each_step_is_a_row(monkeypatch, capsys, tmp_path):
    compiled = []

    def compile_nothing(model):  # in earnest it takes a minute
        compiled.append(model)
        return model

    monkeypatch.setattr(torch, "compile", compile_nothing)
    path = tmp_path / "out/steps.json"
    arguments = [ROOT / NAME.format("dy-"), "--vs", ROOT / NAME.format(""), "--shape",
                 32, 64, "--repeats", 1, "--json", path]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")
    record = json.loads(path.read_text())
    assert record["shape"] == [1, 3, 32, 64]
    assert [s["step"] for s in record["steps"] if s["static_ms"] is None] == [
        "feature maps fused (eq. 2)",
        "predictors by columns",
        "small 1x1 layers as products",
        "int8 banks and predictors",
    ]
    last_static = None
    for step in record["steps"][1:]:
        last_static = step["static_ms"] or last_static
        assert step["ratio"] == pytest.approx(last_static / step["dynamic_ms"])
    printed = capsys.readouterr().out
    assert all(f"| {step['step']} " in printed for step in record["steps"])
    assert len(compiled) == 2
