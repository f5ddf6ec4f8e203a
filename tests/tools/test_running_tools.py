"""Train, test, compare, count, time and export through the tools, all of it small."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.runner import save_checkpoint
from PIL import Image

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "configs/dynet/r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
DYNAMIC = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


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
    run_tool("train.py", DYNAMIC, "--work-dir", "run", "--resume", "--amp", *more)
    log = max(Path("run").glob("*/*.log")).read_text()
    assert "type='BFloat16OptimWrapper'" in log
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


@pytest.mark.parametrize("options", [(), ("--tta",)])
def test_weights_of_another_network_are_not_tested(options, few_streets, tmp_path):
    """MMEngine logs what is missing, and tests a network that is random in part."""
    cfg = load_config(str(DYNAMIC), {"model.backbone.num_kernels": 2})
    save_checkpoint(
        dict(state_dict=build_model(cfg).state_dict()), str(tmp_path / "k2.pth")
    )
    error = run_tool("test.py", DYNAMIC, tmp_path / "k2.pth", *options, "--work-dir",
                     tmp_path / "test", *few_streets, fails=True)  # fmt: skip
    assert "k2.pth does not fit EncoderDecoder: it lacks" in error
    assert "layer1.0.conv1.weight" in error


def test_a_test_needs_no_weights_of_the_auxiliary_head(few_streets, tmp_path):
    weights = build_model(load_config(str(DYNAMIC))).state_dict()
    bare = {n: w for n, w in weights.items() if not n.startswith("auxiliary_head.")}
    assert len(bare) < len(weights)
    save_checkpoint(dict(state_dict=bare), str(tmp_path / "bare.pth"))
    run_tool("test.py", DYNAMIC, tmp_path / "bare.pth", "--work-dir",
             tmp_path / "test", *few_streets)  # fmt: skip
    assert last_metrics(tmp_path / "test")["mIoU"] > 0


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
    # Twice the same config: two checkpoints of one run.
    shutil.copy(checkpoints[1], "other.pth")
    run_tool("analysis_tools/compare.py", DYNAMIC, DYNAMIC, "--repeats", 1,
             "--checkpoints", checkpoints[1], "other.pth",
             "--json", "table.json", *few_streets)  # fmt: skip
    rows = json.loads(Path("table.json").read_text())
    assert list(rows) == [
        f"{DYNAMIC.stem}, {DYNAMIC.stem}/iter_2", f"{DYNAMIC.stem}, other"
    ]  # fmt: skip


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


def test_benchmark_records_both_sides(tmp_path):
    record_path, plot = tmp_path / "out/record.json", tmp_path / "out/sweep.png"
    printed = run_tool("analysis_tools/benchmark.py", DYNAMIC, "--vs", STATIC,
                       "--shape", 32, 64, 64, 64, "--repeats", 2, "--int8",
                       "--json", record_path, "--plot", plot)  # fmt: skip
    flops_path = tmp_path / "flops.json"
    run_tool("analysis_tools/get_flops.py", DYNAMIC, "--vs", STATIC, "--shape", 32, 64,
             "--json", flops_path)  # fmt: skip
    saved = json.loads(flops_path.read_text())["reduction_percent"]
    first, second = json.loads(record_path.read_text())
    assert [first["shape"], second["shape"]] == [[1, 3, 32, 64], [1, 3, 64, 64]]
    assert first["mac_ratio"] == pytest.approx(1 / (1 - saved / 100))
    assert first["ratio"] == first["static_ms"] / first["dynamic_ms"]
    assert first["mac_ratio_reached"] == first["ratio"] / first["mac_ratio"]
    assert 0 < first["prediction_share"] + first["fusion_share"] < 1
    assert first["machine"] in printed
    assert first["command"].startswith("python ")
    assert DYNAMIC.name in first["command"]
    assert size_of(plot)[0] > 500


def test_benchmark_of_training_has_three_sides_and_their_memory(tmp_path):
    run_tool("analysis_tools/benchmark.py", DYNAMIC, "--vs", STATIC, "--train",
             "--feature-fusion", "--shape", 64, 64, "--batch", 2, "--repeats", 2,
             "--warmup", 1, "--amp", "--json", tmp_path / "record.json")  # fmt: skip
    record = json.loads((tmp_path / "record.json").read_text())
    for side in ("static", "dynamic", "feature_fusion"):
        first, third = record[f"{side}_quartiles_ms"]
        assert first <= record[f"{side}_ms"] <= third
        assert record[f"{side}_peak_mb"] > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", 1, 2, 3), "--shape takes pairs H W, got 3 numbers"),
        (("--repeats", 1), "--repeats: must be at least 2, got 1"),
        (("--train", "--backend", "onnxruntime"), "--train runs in PyTorch"),
        (("--backend", "onnxruntime", "--batch", 2), "on one picture"),
        (("--backend", "onnxruntime", "--vs", "ResNet50"), "configs of segmentors"),
        (
            ("--backend", "onnxruntime", "--implementation", "loop"),
            "no int8 weights or",
        ),
        (("--backend", "onnxruntime", "--device", "cuda"), "on the CPU"),
        (("--int8", "--train"), "for inference on a CPU"),
        (("--amp",), "--amp belongs to --train"),
        (("--feature-fusion",), "--feature-fusion belongs to --train"),
        (("--memory-format", "contiguous"), "--memory-format belongs to --train"),
        (("--plot", "a.png"), "name the static twin with --vs"),
    ],
)
def test_benchmark_names_what_does_not_go_together(arguments, message):
    error = run_tool("analysis_tools/benchmark.py", DYNAMIC, *arguments, fails=True)
    assert message in " ".join(error.split())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "street.onnx"
    printed = run_tool(
        "deployment/export.py", DYNAMIC, "--shape", 64, 96, "--out", path
    )
    return path, printed


@pytest.mark.recent_torch
def test_export_prints_the_difference_that_it_found(exported):
    path, printed = exported
    (difference,) = re.findall(r"difference at 1 x 3 x 64 x 96\s*\|\s*(\S+)", printed)
    assert float(difference) < 1e-4
    assert f"{path.stat().st_size / 1e6:.1f}" in printed


@pytest.mark.recent_torch
def test_a_model_that_differs_is_not_written(tmp_path):
    # A class is shifted once it is exported.
    script = (
        "import runpy, sys, mmseg_dynet.deploy.export as deploy\n"
        "export = deploy.export_onnx\n"
        "def export_another(model, *args):\n"
        "    export(model, *args); model.decode_head.conv_seg.bias.data[3] += 1e-3\n"
        "deploy.export_onnx = export_another\n"
        f"sys.argv[0] = {str(ROOT / 'tools/deployment/export.py')!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    out = tmp_path / "model.onnx"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, DYNAMIC, "--shape", "64", "96",
         "--out", out],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"{out} is not written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.recent_torch
def test_export_wants_an_ending_that_it_knows(tmp_path):
    error = run_tool("deployment/export.py", DYNAMIC, "--out", tmp_path / "a.pb",
                     fails=True)  # fmt: skip
    assert "one of .onnx, .pt2" in " ".join(error.split())


@pytest.mark.recent_torch
def test_a_picture_is_segmented_without_torch_and_the_host(exported, tmp_path):
    model, _ = exported
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "street.png")
    tool = str(ROOT / "tools/deployment/segment_image.py")
    script = (
        "import runpy, sys\n"
        "for name in ('torch', 'mmseg', 'mmcv', 'mmengine', 'mmseg_dynet'):\n"
        "    sys.modules[name] = None\n"
        f"runpy.run_path({tool!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, model, tmp_path / "street.png",
         tmp_path / "mask.png"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(model)
    (logits,) = session.run(None, {"images": pixels.transpose(2, 0, 1)[None]})
    labels = logits[0].argmax(0)
    palette = json.loads(session.get_modelmeta().custom_metadata_map["palette"])
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert np.array_equal(mask, np.array(palette, np.uint8)[labels])
    shares = [float(s) for s in re.findall(r"([\d.]+)%", done.stdout)]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert shares[0] == pytest.approx(
        100 * np.bincount(labels.ravel()).max() / labels.size, abs=0.05
    )
