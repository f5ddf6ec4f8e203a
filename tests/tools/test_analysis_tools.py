"""Count, time and compare networks through the tools."""

import json
import runpy
import shutil
from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_dynet.analysis.coefficients import CoefficientRecorder, average
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.ops.per_image import choose

ROOT = Path(__file__).parents[2]
COMPARE = str(ROOT / "tools/analysis_tools/compare.py")


def read(path) -> dict:
    return json.loads(path.read_text())


def test_get_flops(run_tool, write_config, tmp_path):
    configs = write_config("dy-"), write_config("")
    record = tmp_path / "flops.json"
    printed = run_tool("analysis_tools/get_flops.py", configs[0], "--vs", configs[1],
                       "--shape", 64, 128, "--json", record)  # fmt: skip
    report = read(record)
    dynamic, static = (report["configs"][path.stem] for path in configs)
    # K = 6 times the dynamic weights, and C * C/4 + C/4 * 2 * O * 6 per block.
    blocks = [(64, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32), (32, 64),
              (64, 64)]  # fmt: skip
    assert dynamic["fusion"] == sum(6 * 9 * (c * o + o * o) for c, o in blocks)
    assert dynamic["prediction"] == sum(
        c * (c // 4) + c // 4 * 2 * o * 6 for c, o in blocks
    )
    # FCN head at 1/16: two 3x3 convolutions, one over the concatenation, a classifier.
    head = (4 * 8) * (9 * (128 * 8 + 8 * 8 + 136 * 8) + 8 * 19)
    assert static["head"] == head
    assert static["backbone"] == static["convolution"] == static["macs"] - head
    assert dynamic["backbone"] == (
        dynamic["convolution"] + dynamic["fusion"] + dynamic["prediction"]
    )
    for part in ("macs", "backbone"):
        assert f"{100 * (1 - dynamic[part] / static[part]):.2f}" in printed
    assert f"| backbone | {static['backbone'] / 1e9:.3f} " in " ".join(printed.split())


def test_get_flops_of_two_configs_of_one_name(run_tool, write_config, tmp_path):
    config = write_config("dy-")
    other = tmp_path / "other" / config.name
    other.parent.mkdir()
    shutil.copy(config, other)
    run_tool("analysis_tools/get_flops.py", config, "--vs", other, "--json", "a.json")
    assert [*read(tmp_path / "a.json")["configs"]] == [str(other), str(config)]


@pytest.mark.parametrize("channels", (1, 4))
def test_images_of_other_channels(channels, run_tool, write_config, tmp_path):
    config = write_config("dy-", **{"model.backbone.in_channels": channels})
    run_tool("analysis_tools/get_flops.py", config, "--json", tmp_path / "flops.json")
    counts = read(tmp_path / "flops.json")
    assert counts["shape"] == [1, channels, 128, 256]
    run_tool("analysis_tools/benchmark.py", config, "--repeats", 2, "--warmup", 0,
             "--json", tmp_path / "record.json")  # fmt: skip
    assert read(tmp_path / "record.json")["shape"] == [1, channels, 128, 256]


def test_benchmark_of_inference(run_tool, write_config, tmp_path):
    dynamic, static = write_config("dy-"), write_config("")
    record = tmp_path / "out/record.json"
    printed = run_tool("analysis_tools/benchmark.py", dynamic, "--vs", static,
                       "--shape", 32, 64, 64, 64, "--repeats", 2, "--int8",
                       "--json", record)  # fmt: skip
    run_tool("analysis_tools/get_flops.py", dynamic, "--vs", static, "--shape", 32, 64,
             "--json", tmp_path / "flops.json")  # fmt: skip
    saved = read(tmp_path / "flops.json")["reduction_percent"]
    first, second = read(record)
    assert [first["shape"], second["shape"]] == [[1, 3, 32, 64], [1, 3, 64, 64]]
    assert first["mac_ratio"] == pytest.approx(1 / (1 - saved / 100))
    assert first["ratio"] == first["static_ms"] / first["dynamic_ms"]
    assert first["mac_ratio_reached"] == first["ratio"] / first["mac_ratio"]
    assert first["machine"] in printed
    assert "dy-tiny.py" in first["command"]


def test_benchmark_of_networks_of_the_paper(run_tool, capsys, tmp_path):
    path = tmp_path / "record.json"
    run_tool("analysis_tools/benchmark.py", "Dy-ResNet18", "--vs", "ResNet18",
             "--repeats", 2, "--warmup", 0, "--json", path)  # fmt: skip
    record = read(path)
    assert record["shape"] == [1, 3, 224, 224]
    assert record["mac_ratio"] == pytest.approx(3.05, abs=0.01)
    with pytest.raises(SystemExit):
        run_tool("analysis_tools/benchmark.py", "Dy-ResNet19")
    assert "Dy-ResNet19 is neither a file nor one of" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["loop", "grouped"])
def test_benchmark_times_the_implementation_that_is_asked_for(name):
    path = str(ROOT / "tools/analysis_tools/benchmark.py")
    forced = runpy.run_path(path, run_name="tool")["forced"]
    x, kernels = torch.ones(2, 4, 8, 8), torch.ones(2, 4, 4, 3, 3)
    call = forced(partial(choose, x, kernels, 1), Namespace(implementation=name), "")
    assert call() == name


@pytest.mark.recent_torch
def test_benchmark_in_onnxruntime(run_tool, write_config, tmp_path):
    path = tmp_path / "record.json"
    run_tool("analysis_tools/benchmark.py", write_config("dy-"), "--repeats", 2,
             "--backend", "onnxruntime", "--json", path)  # fmt: skip
    assert read(path)["dynamic_ms"] > 0


def test_benchmark_of_training(run_tool, write_config, tmp_path):
    run_tool("analysis_tools/benchmark.py", write_config("dy-", binary=True), "--train",
             "--shape", 64, 64, "--repeats", 2, "--warmup", 1, "--amp",
             "--feature-fusion", "--memory-format", "contiguous",
             "--json", tmp_path / "record.json")  # fmt: skip
    record = read(tmp_path / "record.json")
    assert record["shape"][0] == 2
    for side in ("dynamic", "feature_fusion"):
        first, third = record[f"{side}_quartiles_ms"]
        assert first <= record[f"{side}_ms"] <= third
        assert record[f"{side}_peak_mb"] > 100


def test_implementations_are_timed_side_by_side(run_tool, tmp_path):
    run_tool(
        ROOT / "benchmarks/implementations.py", "Dy-ResNet18", "--batch", 2,
        "--shape", 32, 32, "--repeats", 1, "--format", "channels_last",
        "--json", tmp_path / "rows.json",
    )  # fmt: skip
    rows = read(tmp_path / "rows.json")["rows"]
    assert len(rows) == 8 * 2  # different layers, in inference and in training
    for row in rows:
        assert row["chosen"] == "loop"
        assert all(row[f"{side}_ms"] > 0 for side in ("static", "grouped", "unfold"))
        assert "matmul_ms" not in row


def test_networks_for_gpus_take_turns():
    measure = runpy.run_path(str(ROOT / "benchmarks/gpu.py"))["measure"]
    row = measure(("resnet18", 2, 32, 32, True, False), "cpu", repeats=2)
    assert (row["static"], row["dynamic"]) == ("ResNet18", "Dy-ResNet18")
    assert row["ratio"] == row["static_ms"] / row["dynamic_ms"]
    assert row["dynamic_peak_mb"] > 100
    assert not any(key.endswith("_error") for key in row)


def test_compare(run_tool, write_config, save_weights, tmp_path):
    names = ("LoadImageFromFile", "Resize", "LoadAnnotations", "PackSegInputs")
    halved = [dict(type=name) for name in names]
    halved[1]["scale"] = (128, 64)
    windows = dict(mode="slide", crop_size=(64, 64), stride=(64, 64))
    options = {"test_dataloader.dataset.pipeline": halved, "model.test_cfg": windows}
    configs = write_config(""), write_config("dy-", **options)
    weights = [save_weights(config) for config in configs]
    printed = run_tool(
        "analysis_tools/compare.py", *configs, "--checkpoints", *weights,
        "--repeats", 1, "--picture", "out/demo.png", "--num-images", 2,
        "--json", tmp_path / "table.json",
    )  # fmt: skip
    table = read(tmp_path / "table.json")
    assert list(table) == ["tiny", "dy-tiny"]
    assert [r["image_size"] for r in table.values()] == [[128, 256], [64, 128]]
    static, dynamic = table["tiny"], table["dy-tiny"]
    model = build_model(load_config(configs[1]))
    assert dynamic["macs"] == count_complexity(model, (2, 3, 64, 64)).macs
    assert f" {100 * (dynamic['macs'] / static['macs'] - 1):+.1f} |" in printed
    assert f" {static['latency_ms'] / dynamic['latency_ms']:.2f}x |" in printed
    for row in table.values():
        assert row["latency_ms"] > 0
        assert f"{row['metrics']['mIoU']:.2f} |" in printed
    with Image.open(tmp_path / "out/demo.png") as picture:
        assert picture.width > picture.height > 200


@METRICS.register_module()
class Remark(BaseMetric):
    """A metric that is not a number."""

    def process(self, data_batch, data_samples):
        self.results.append(None)

    def compute_metrics(self, results):
        return dict(remark="fine")


def test_compare_a_binary_head_by_dice(run_tool, write_config, save_weights, tmp_path):
    """One logit, which the host turns into labels of type float, and no mIoU.

    The preprocessor pads, so images cost more than their size tells. The config has no
    visualizer, and is that of a training that was resumed.
    """
    metrics = [dict(type="IoUMetric", iou_metrics=["mDice"]), dict(type="Remark")]
    padding = {"model.data_preprocessor.test_cfg.size_divisor": 512}
    resumed = dict(visualizer=None, resume=True, test_evaluator=metrics)
    config = write_config("dy-", grey=True, binary=True, **resumed, **padding)
    printed = run_tool(
        "analysis_tools/compare.py", config, "--checkpoints", save_weights(config),
        "--repeats", 1, "--picture", "demo.png", "--num-images", 1,
        "--json", tmp_path / "table.json",
    )  # fmt: skip
    row = read(tmp_path / "table.json")["dy-tiny"]
    metrics, model = row["metrics"], build_model(load_config(config))
    assert row["macs"] == count_complexity(model, (1, 1, 512, 512)).macs
    assert f"| mDice | {metrics['mDice']:.2f} |" in " ".join(printed.split())


def test_compare_names_two_checkpoints_of_one_config():
    name_networks = runpy.run_path(COMPARE, run_name="tool")["name_networks"]
    assert name_networks(["a/x.py", "b/y.py"], ["1.pth", "1.pth"]) == ["x", "y"]
    names = name_networks(["x.py", "x.py"], ["run/iter_1.pth", "run/iter_2.pth"])
    assert names == ["x, run/iter_1.pth", "x, run/iter_2.pth"]
    with pytest.raises(ValueError, match="given twice"):
        name_networks(["x.py", "x.py"], ["1.pth", "1.pth"])


def test_compare_shows_what_is_read_as_bgr():
    to_rgb = runpy.run_path(COMPARE, run_name="tool")["to_rgb"]
    pixel = torch.tensor([1, 2, 3])[:, None, None]
    assert to_rgb(pixel).tolist() == [[[3, 2, 1]]]


def test_compare_names_the_remedy_without_checkpoint(run_tool, write_config):
    config = write_config("")
    with pytest.raises(FileNotFoundError, match=f"python tools/train.py {config}"):
        run_tool("analysis_tools/compare.py", config)


def test_coefficients(run_tool, write_config, save_weights, vary, tmp_path):
    """The tool shows the summaries of the images that it picks, and their average."""
    config = write_config("dy-")
    weights = save_weights(config, vary)
    record, plot = tmp_path / "out/record.json", tmp_path / "out/layers.png"
    printed = run_tool("analysis_tools/coefficients.py", config, weights,
                       "--num-images", 3, "--json", record, "--plot", plot,
                       "--cfg-options", "test_dataloader.batch_size=2")  # fmt: skip

    cfg = load_config(str(config))
    model = build_model(cfg, str(weights))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    with CoefficientRecorder(model) as recorder, torch.no_grad():
        for i in (0, 2, 3):  # three of four
            model.test_step(pseudo_collate([dataset[i]]))
    layers, report = recorder.summarize(), read(record)
    assert list(report["layers"]) == list(layers)
    for name, summary in layers.items():
        got = report["layers"][name]
        assert got["num_images"] == 3
        for key in ("mean", "between_image_std", "dead"):
            assert got[key] == pytest.approx(getattr(summary, key), rel=1e-3)
        assert f" {name} | 6 | {summary.mean:.3f} |" in " ".join(printed.split())
    assert report["average"] == pytest.approx(average(layers), rel=1e-3)
    assert f" {100 * report['average']['dead']:.1f} |" in printed
    assert "coefficients over 3 images" in printed
    with Image.open(plot) as picture:
        assert min(picture.size) > 400
