"""The correlation tool on streets: its figures are NumPy's on the same feature maps."""

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

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.files import is_whole_png

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "configs/dynet/r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
DYNAMIC = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


def run_tool(*arguments: object, fails: bool = False) -> str:
    """Run the tool in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/analysis_tools/correlation.py",
         *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout[-2000:] + done.stderr
    return done.stderr if fails else done.stdout


@pytest.fixture
def save_model(tmp_path):
    """Save a config's model with drawn weights; return it, and its checkpoint."""

    def save(config: Path) -> tuple[torch.nn.Module, Path]:
        torch.manual_seed(0)
        model = build_model(load_config(str(config)))
        checkpoint = tmp_path / f"{config.stem}.pth"
        save_checkpoint(dict(state_dict=model.state_dict()), str(checkpoint))
        return model, checkpoint

    return save


@torch.inference_mode()
def numpy_figures(model, config, root, picks, stage):
    """The tool's figures, from one table of the pixels of all images."""
    cfg = load_config(str(config))
    cfg.test_dataloader.dataset.data_root = str(root)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    maps = []
    for index in picks:
        images = model.data_preprocessor(pseudo_collate([dataset[index]]))["inputs"]
        maps.append(model.backbone(images)[stage][0].flatten(1).double().numpy())
    table = np.hstack(maps)
    varies = np.ptp(table, axis=1) > 0  # ReLU leaves some channels at 0
    matrix = np.corrcoef(table[varies])
    r = matrix[np.triu_indices(len(matrix), k=1)]
    size = np.abs(r)
    return {
        "images": len(picks),
        "channels": len(table),
        "constant": np.sum(~varies),
        "pairs": len(r),
        "S": np.mean(size >= 0.6),
        "M": np.mean((size >= 0.4) & (size < 0.6)),
        "W": np.mean((size >= 0.2) & (size < 0.4)),
        "N": np.mean(size < 0.2),
        "paper_share": np.mean((r >= -0.1) & (r <= 0.2)),
        "mean_magnitude": size.mean(),
    }


def test_two_networks_in_one_table_and_picture(save_model, tiny_cityscapes, tmp_path):
    (dynamic, dynamic_file), (static, static_file) = map(save_model, (DYNAMIC, STATIC))
    plot, report_file = tmp_path / "plot.png", tmp_path / "report.json"
    printed = run_tool(
        DYNAMIC, dynamic_file, "--vs", STATIC, static_file, "--num-images", 3,
        "--plot", plot, "--json", report_file,
        "--cfg-options", f"test_dataloader.dataset.data_root={tiny_cityscapes}",
    )  # fmt: skip
    report = json.loads(report_file.read_text())
    models = {DYNAMIC: dynamic, STATIC: static}
    assert [record["config"] for record in report["networks"]] == [*map(str, models)]
    for record, (config, model) in zip(report["networks"], models.items(), strict=True):
        # Three of four, evenly spread; output 2 of 4 is the second-last.
        expected = numpy_figures(model, config, tiny_cityscapes, (0, 2, 3), stage=2)
        figures = record | record["shares"]
        assert {key: figures[key] for key in expected} == pytest.approx(
            expected, abs=1e-3
        )
        (row,) = (line for line in printed.splitlines() if f" {config.stem}," in line)
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        counts, (*shares, mean) = cells[:4], cells[4:]
        values = [figures[key] for key in expected]
        assert counts == [str(count) for count in values[:4]]
        assert shares == [f"{100 * share:.1f}" for share in values[4:-1]]
        assert mean == f"{values[-1]:.3f}"
    assert "the edges are ours" in printed
    assert is_whole_png(plot)


def test_a_stage_that_does_not_exist(save_model, tiny_cityscapes):
    _, checkpoint = save_model(DYNAMIC)
    error = run_tool(
        DYNAMIC, checkpoint, "--stage", 4, "--cfg-options",
        f"test_dataloader.dataset.data_root={tiny_cityscapes}", fails=True,
    )  # fmt: skip
    assert "no stage 4 among the 4 outputs" in error
    assert "give --stage from -4 to 3" in error


def test_no_images():
    error = run_tool(DYNAMIC, "model.pth", "--num-images", 0, fails=True)
    assert "--num-images: must be at least 1, got 0" in error
