"""Train, test, compare and count through the tools, on a few small streets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mmseg
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "configs/fcn/r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
DYNAMIC = ROOT / "configs/fcn/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


def run_tool(tool: str | Path, *arguments: object, fails: bool = False) -> str:
    """Run a tool as a user does, in a process of its own, and return what it prints.

    The host's runners keep global state (visualizers, loggers), so two in a process
    would not be two runs.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools" / tool, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stdout[-2000:] + done.stderr
    return done.stderr if fails else done.stdout


@pytest.fixture
def few_streets(synthetic_streets):
    """Options that turn a config of synthetic streets into one of two iterations."""
    loaders = [
        f"{split}_dataloader.{key}"
        for split in ("train", "val", "test")
        for key in (
            f"dataset.data_root={synthetic_streets}",
            "num_workers=0",
            "persistent_workers=False",
        )
    ]
    return ["--cfg-options", "train_dataloader.batch_size=2", "train_cfg.max_iters=2",
            "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=1",
            "default_hooks.logger.interval=1", *loaders]  # fmt: skip


def size_of(picture: str | Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def last_metrics(work_dir: Path) -> dict:
    """The metrics of the last validation or test in a work dir."""
    logs = sorted(work_dir.glob("*/vis_data/scalars.json")) + sorted(
        work_dir.glob("*/*.json")
    )
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [line for line in lines if "mIoU" in line][-1]


def test_train_resume_test(few_streets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_tool("train.py", DYNAMIC, "--work-dir", "run", *few_streets)
    trained = torch.load("run/iter_2.pth", map_location="cpu", weights_only=False)
    bank = trained["state_dict"]["backbone.layer1.0.conv1.weight"]
    assert bank.shape == (32, 6, 64, 3, 3)
    validated = last_metrics(tmp_path / "run")

    run_tool("test.py", DYNAMIC, "run/iter_2.pth", "--work-dir", "test",
             "--out", "predictions", "--show-dir", "painted", *few_streets)  # fmt: skip
    tested = last_metrics(tmp_path / "test")
    assert tested["mIoU"] == validated["mIoU"]
    predictions = sorted(Path("predictions").glob("*.png"))
    assert [size_of(p) for p in predictions] == [(256, 128)] * 4
    assert len(list(Path("painted").rglob("*.png"))) == 4

    more = [o.replace("max_iters=2", "max_iters=3") for o in few_streets]
    run_tool("train.py", DYNAMIC, "--work-dir", "run", "--resume", *more)
    log = max(Path("run").glob("*/*.log")).read_text()
    assert "resumed epoch: 0, iter: 2" in log
    assert Path("run/iter_3.pth").is_file()


def test_configs_run_under_the_hosts_own_tools(few_streets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # An absolute path takes the place of our tools' folder.
    host_tools = Path(mmseg.__file__).parent / ".mim/tools"
    run_tool(host_tools / "train.py", DYNAMIC, "--work-dir", "run", *few_streets)
    validated = last_metrics(tmp_path / "run")
    run_tool(host_tools / "test.py", DYNAMIC, "run/iter_2.pth", "--work-dir", "test",
             *few_streets)  # fmt: skip
    assert last_metrics(tmp_path / "test")["mIoU"] == validated["mIoU"]


def test_compare_prints_one_table_and_draws(few_streets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = []
    for config in (STATIC, DYNAMIC):
        run_tool("train.py", config, *few_streets)
        checkpoints.append(f"work_dirs/{config.stem}/iter_2.pth")
    printed = run_tool("analysis_tools/compare.py", STATIC, DYNAMIC, "--repeats", 1,
                       "--picture", "out/demo.png", "--num-images", 2,
                       "--json", "table.json", *few_streets)  # fmt: skip
    assert "out/demo.png" in printed
    table = json.loads(Path("table.json").read_text())
    assert list(table) == [STATIC.stem, DYNAMIC.stem]
    assert table[DYNAMIC.stem]["macs"] < 0.33 * table[STATIC.stem]["macs"]
    for config in (STATIC, DYNAMIC):
        expected = last_metrics(Path("work_dirs", config.stem))["mIoU"]
        assert table[config.stem]["metrics"]["mIoU"] == expected
        assert table[config.stem]["latency_ms"] > 0
    width, height = size_of("out/demo.png")
    assert width > height > 200


def test_compare_names_the_remedy_without_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run_tool("analysis_tools/compare.py", STATIC, fails=True)
    assert f"python tools/train.py {STATIC}" in error


def test_compare_wants_a_checkpoint_a_config():
    error = run_tool("analysis_tools/compare.py", STATIC, DYNAMIC,
                     "--checkpoints", "a.pth", fails=True)  # fmt: skip
    assert "2 configs but 1 checkpoints" in error


def test_get_flops(tmp_path):
    report_path = tmp_path / "flops.json"
    printed = run_tool("analysis_tools/get_flops.py", DYNAMIC, "--vs", STATIC,
                       "--shape", 64, 128, "--json", report_path)  # fmt: skip
    report = json.loads(report_path.read_text())
    dynamic, static = (report["configs"][p.stem] for p in (DYNAMIC, STATIC))
    # Bank and predictor of Dy-ResNet18 by hand: K = 6 times the dynamic weights, and
    # C * C/4 + C/4 * 2 * O * 6 a block.
    blocks = [(64, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128),
              (128, 256), (256, 256)]  # fmt: skip
    assert dynamic["fusion"] == sum(6 * 9 * (c * o + o * o) for c, o in blocks)
    assert dynamic["prediction"] == sum(
        c * c // 4 + c // 4 * 2 * o * 6 for c, o in blocks
    )
    # FCN head at 1/16: two 3x3 convolutions, one over the concatenation, a classifier.
    assert static["head"] == (4 * 8) * (9 * (512 * 128 + 128 * 128 + 640 * 128)
                                        + 128 * 19)  # fmt: skip
    reduction = 100 * (1 - dynamic["macs"] / static["macs"])
    assert report["reduction_percent"] == pytest.approx(reduction)
    assert f"{reduction:.2f}" in printed


def test_a_missing_config_is_named():
    error = run_tool("analysis_tools/get_flops.py", "nowhere.py", fails=True)
    assert "no config file at nowhere.py" in error
