"""The tool shows what NumPy says of all coefficients over the images that it picked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import save_checkpoint
from mmseg.registry import DATASETS
from PIL import Image
from torch import nn

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.ops import CoefficientPredictor

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "configs/dynet/r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
DYNAMIC = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


def run_tool(*arguments: object, fails: bool = False) -> str:
    """Run the tool as a user does, and return what it prints, without line breaks."""
    tool = ROOT / "tools/analysis_tools/coefficients.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", tool, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stdout[-2000:] + done.stderr
    return " ".join((done.stderr if fails else done.stdout).split())


@pytest.fixture
def options(synthetic_streets):
    return ["--cfg-options", f"test_dataloader.dataset.data_root={synthetic_streets}",
            "test_dataloader.num_workers=0", "test_dataloader.batch_size=2",
            "test_dataloader.persistent_workers=False"]  # fmt: skip


@pytest.fixture
def build(tmp_path):
    """Build a config's model and save its weights; return model and path."""

    def build_and_save(config: Path) -> tuple[nn.Module, Path]:
        torch.manual_seed(0)
        model = build_model(load_config(str(config)))
        for module in model.modules():
            if isinstance(module, CoefficientPredictor):
                module.logits.weight.data *= 30
                nn.init.normal_(module.logits.bias, std=2)
        path = tmp_path / "model.pth"
        save_checkpoint(dict(state_dict=model.state_dict()), str(path))
        return model, path

    return build_and_save


def test_table_record_and_plot(synthetic_streets, options, build, tmp_path):
    model, checkpoint = build(DYNAMIC)
    record, plot = tmp_path / "out/record.json", tmp_path / "out/layers.png"
    printed = run_tool(DYNAMIC, checkpoint, "--num-images", 3, "--json", record,
                       "--plot", plot, *options)  # fmt: skip

    cfg = load_config(str(DYNAMIC))
    cfg.test_dataloader.dataset.data_root = str(synthetic_streets)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    kept = []
    for module in model.modules():
        if isinstance(module, CoefficientPredictor):
            module.register_forward_hook(lambda _, __, out: kept[-1].extend(out))
    with torch.no_grad():
        for i in (0, 2, 3):  # three of four
            kept.append([])
            model.test_step(pseudo_collate([dataset[i]]))
    # Images x coefficients of each layer, in the order that layers run.
    layers = [
        np.stack([coeff.double().flatten().numpy() for coeff in coeffs])
        for coeffs in zip(*kept, strict=True)
    ]
    network = np.hstack(layers)

    report = json.loads(record.read_text())
    names = [
        f"backbone.layer{stage}.{block}.conv{conv}"
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
        for conv in (1, 2)
    ]
    assert list(report["layers"]) == names
    for name, coeffs in zip(names, layers, strict=True):
        summary = report["layers"][name]
        assert summary["num_images"] == 3
        assert summary["mean"] == pytest.approx(coeffs.mean(), rel=1e-4)
        between = coeffs.std(0).mean()
        assert summary["between_image_std"] == pytest.approx(between, rel=1e-3)
        assert summary["quantiles"]["0.5"] == pytest.approx(
            np.quantile(coeffs, 0.5, method="inverted_cdf"), abs=1e-3
        )
        row = f"| {name} | 6 | {summary['mean']:.3f} |"
        assert row in printed
    dead, saturated = (network < 0.05).all(0).mean(), (network > 0.95).all(0).mean()
    assert report["average"]["dead"] == pytest.approx(dead, abs=1e-3)
    assert report["average"]["saturated"] == pytest.approx(saturated, abs=1e-3)
    assert dead > 0.01
    assert f"{100 * report['average']['dead']:.1f} |" in printed
    assert "coefficients over 3 images" in printed
    with Image.open(plot) as picture:
        assert min(picture.size) > 400


def test_a_static_network_has_none(options, build):
    _, checkpoint = build(STATIC)
    error = run_tool(STATIC, checkpoint, *options, fails=True)
    assert "EncoderDecoder is static" in error
    assert "configs/*/dy-*.py" in error


def test_two_images_are_needed(options, build):
    error = run_tool(DYNAMIC, "model.pth", "--num-images", 1, fails=True)
    assert "--num-images: must be at least 2, got 1" in error
    _, checkpoint = build(DYNAMIC)
    one = [*options, "test_dataloader.dataset.indices=1"]
    error = run_tool(DYNAMIC, checkpoint, *one, fails=True)
    assert "at least 2 of them, got 1" in error
