"""The tables, and the rule of the class weights."""

import json

import numpy as np
import pytest
from class_weights import balancing_weights
from study import tables


def test_arms_and_differences(tmp_path, monkeypatch):
    """Two seeds per arm; the interval of the difference is computed by hand."""
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    found = {"r18-d16": (50.0, 52.0), "dy-r18-d16": (53.0, 55.0),
             "fix-r18-d16": (50.0, 52.0)}  # fmt: skip
    folder = tmp_path / "bfloat16"
    (folder / "modes").mkdir(parents=True)
    for network, values in found.items():
        for seed, score in enumerate(values):
            run = {"val_mIoU": score}
            (folder / f"{network}-seed{seed}.json").write_text(json.dumps(run))
            modes = {
                mode: {"metrics": {"mIoU": value}, "coefficient_difference": 0.25}
                for mode, value in ((tables.WHOLE, score - 1), (tables.SLIDING, score))
            }
            path = folder / f"modes/{network}-seed{seed}.json"
            path.write_text(json.dumps({"modes": modes}))
    cost = dict(params=1, gmacs=4, ms=5, whole_gmacs=2, whole_ms=3)
    costs = {"ResNet18": cost, "Dy-ResNet18": cost | {"gmacs": 1},
             "Fix-ResNet18": cost}  # fmt: skip
    report = {"arms": costs, "machine": "a CPU"}
    (tmp_path / "cost.json").write_text(json.dumps(report))

    assert (
        "| Dy-ResNet18 | 1.00 | 54.00 | 53.00, 55.00 | 1.00 | 75.0 | 5.0 | 53.00 | "
        "2.00 | 3.0 |\n" in tables.arms_table("bfloat16")
    )
    assert "| whole image | 50.00 | 53.00 | 50.00 | 0.2500 |\n" in tables.modes_table(
        "bfloat16"
    )
    # Each mean has variance 2 / 2, so the standard error is sqrt(2), with 2 degrees of
    # freedom, whose 97.5 % quantile is 4.3027.
    half = 4.3027 * np.sqrt(2)
    interval = f"+3.00 ({3 - half:+.2f} .. {3 + half:+.2f})"
    row = f"| ResNet18 | {interval} | {interval} |\n"
    assert row in tables.differences_table()


def test_rare_classes_weigh_more():
    shares = np.array([0.9, 0.1])
    weights = balancing_weights(shares)
    assert (shares * weights).sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(np.log(2.0) / np.log(1.2))
