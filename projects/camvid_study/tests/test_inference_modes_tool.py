"""The table of inference modes says what separate runs of the test tool do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import save_checkpoint

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.ops import CoefficientPredictor

ROOT = Path(__file__).parents[2]
NAME = "r18-d16_fcn_1xb4-200_synthetic-streets-128x256"
STATIC, DYNAMIC = (ROOT / f"configs/dynet/{name}.py" for name in (NAME, f"dy-{NAME}"))
# Options of the test tool, and the mode that they make.
SEPARATE_TESTS = {
    "whole image": [],
    "sliding window": [
        "model.test_cfg.mode=slide",
        "model.test_cfg.crop_size=(64,128)",
        "model.test_cfg.stride=(43,85)",
    ],
}


def run_tool(tool: str, *arguments: object) -> str:
    """Run a tool as a user does, in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools" / tool, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout


def save_drawn(config: Path, checkpoint: Path) -> Path:
    """Save drawn weights under which streets differ in their kernels."""
    torch.manual_seed(0)
    model = build_model(load_config(str(config)))
    for module in model.modules():
        if isinstance(module, CoefficientPredictor):
            module.logits.weight.data *= 30
    save_checkpoint(dict(state_dict=model.state_dict()), str(checkpoint))
    return checkpoint


@pytest.fixture(scope="module")
def options(tiny_cityscapes) -> list[str]:
    return ["--cfg-options", f"test_dataloader.dataset.data_root={tiny_cityscapes}",
            "test_dataloader.num_workers=0",
            "test_dataloader.persistent_workers=False"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("modes")


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    return save_drawn(DYNAMIC, folder / "dynamic.pth")


@pytest.fixture(scope="module")
def table_and_report(folder, checkpoint, options) -> tuple[str, dict]:
    path = folder / "modes.json"
    table = run_tool("analysis_tools/inference_modes.py", DYNAMIC, checkpoint, "--crop",
                     64, 128, "--reuse", 3, "--json", path, *options)  # fmt: skip
    return table, json.loads(path.read_text("utf-8"))


def rows(table: str) -> dict[str, list[str]]:
    lines = (line for line in table.splitlines() if line.count("|") == 5)
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return {name: values for name, *values in cells}


@pytest.mark.parametrize("mode", SEPARATE_TESTS)
def test_a_mode_is_a_run_of_the_test_tool(
    mode, table_and_report, checkpoint, options, tmp_path
):
    _, report = table_and_report
    run_tool("test.py", DYNAMIC, checkpoint, "--work-dir", tmp_path, *options,
             *SEPARATE_TESTS[mode])  # fmt: skip
    (log,) = tmp_path.glob("*/*.json")
    tested = json.loads(log.read_text("utf-8"))
    metrics = report["modes"][mode]["metrics"]
    assert set(metrics) == {"aAcc", "mIoU", "mAcc"}
    assert metrics == {name: tested[name] for name in metrics}


def test_the_table_is_the_report_in_short(table_and_report, checkpoint):
    table, report = table_and_report
    modes = report["modes"]
    assert list(modes) == ["whole image", "sliding window",
                           "sliding window, kernels of the whole image",
                           "whole image, kernels of a centre crop",
                           "whole image, mean coefficients",
                           "whole image, kernels kept for 3 frames"]  # fmt: skip
    whole = modes["whole image"]["metrics"]["mIoU"]
    for name, mode in modes.items():
        miou, moved = mode["metrics"]["mIoU"], mode["coefficient_difference"]
        assert mode["mIoU_change"] == miou - whole
        assert rows(table)[name] == [f"{miou:.2f}", f"{miou - whole:+.2f}",
                                     f"{moved:.4f}"]  # fmt: skip
    assert (report["images"], report["crop"], report["stride"]) == (
        4, [64, 128], [43, 85]
    )  # fmt: skip
    assert (report["config"], report["checkpoint"]) == (str(DYNAMIC), str(checkpoint))
    assert f"{DYNAMIC.stem}, 4 images, crop 64 x 128, stride 43 x 85" in table


def test_a_static_network_at_the_crop_that_it_trains_on(folder, options):
    checkpoint = save_drawn(STATIC, folder / "static.pth")
    table = run_tool("analysis_tools/inference_modes.py", STATIC, checkpoint, *options)
    assert "4 images, crop 128 x 256, stride 85 x 171" in table
    (_, *header), *modes = rows(table).items()
    assert header == [["mIoU, %", "vs whole image", "coefficients, mean abs. change"]]
    # The crop is the image, so there is one window.
    (whole, values), (sliding, same_values) = modes
    assert (whole, sliding) == ("whole image", "sliding window")
    assert values == same_values == [values[0], "+0.00", "-"]
