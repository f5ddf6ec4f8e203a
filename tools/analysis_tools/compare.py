"""Compare trained models: a table of cost, latency and metrics, and a picture.

Savings and speed-ups are relative to the first config. Cost is per image as it is
tested: whole, or in all of its windows.
"""

from collections.abc import Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.runner import Runner
from prettytable import PrettyTable
from torch import Tensor, nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.apis import evenly_spaced, load_config, windows_shape
from mmseg_dynet.cli import (
    add_setup_check,
    at_least,
    config_parser,
    default_work_dir,
)
from mmseg_dynet.engine.checkpoint import find_newest, use_safe_loading
from mmseg_dynet.files import write_figure, write_json


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        metavar="FILE",
        help="one per config (default: the newest in its work dir)",
    )
    parser.add_argument("--picture", type=Path, help="write predictions here (PNG)")
    parser.add_argument("--json", type=Path, help="write the table here as JSON")
    parser.add_argument(
        "--num-images",
        type=at_least(1),
        default=4,
        help="images in the picture (default: 4)",
    )
    parser.add_argument(
        "--repeats",
        type=at_least(1),
        default=10,
        help="timed forward passes (default: 10)",
    )
    args = parser.parse_args()
    if args.checkpoints is not None and len(args.checkpoints) != len(args.configs):
        parser.error(
            f"{len(args.configs)} configs but {len(args.checkpoints)} checkpoints: "
            "give one checkpoint per config, in the same order, or none"
        )
    return args


def find_checkpoint(cfg: Config, config_path: str) -> str:
    checkpoint = find_newest(cfg.work_dir)
    if checkpoint is None:
        raise FileNotFoundError(
            f"no checkpoint in {cfg.work_dir}: train it with\n"
            f"    python tools/train.py {config_path}\n"
            "or name one with --checkpoints"
        )
    return str(checkpoint)


def name_networks(config_paths: list[str], checkpoints: list[str]) -> list[str]:
    """Name networks after their configs; where these are equal, add checkpoints."""
    names = [Path(path).stem for path in config_paths]
    if len(set(names)) < len(names):
        names = [", ".join(pair) for pair in zip(names, checkpoints, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"one network is given twice: {', '.join(names)}")
    return names


def build_runner(name: str, cfg: Config, checkpoint: str) -> Runner:
    cfg.load_from, cfg.resume = checkpoint, False
    add_setup_check(cfg)
    # Visualizers are global by name: a second one would write to the first's work dir.
    visualizer = cfg.get("visualizer") or dict(type="SegLocalVisualizer")
    cfg.visualizer = dict(visualizer, name=name)
    return Runner.from_cfg(cfg)


@torch.inference_mode()
def predict(runner: Runner, sample: dict) -> np.ndarray:
    (result,) = runner.model.test_step(pseudo_collate([sample]))
    return result.pred_sem_seg.data[0].cpu().numpy()


def run(model: nn.Module, windows: Tensor) -> None:
    """Run a segmentor on the windows of an image, (N, C, H, W), as in a test."""
    for window in windows.split(1):
        model(window)


def to_rgb(image: Tensor) -> np.ndarray:
    """Show an image (C, H, W), BGR if it has three channels or more, as (H, W, 3)."""
    channels = [2, 1, 0] if len(image) >= 3 else [0, 0, 0]
    return image[channels].permute(1, 2, 0).numpy()


def colorize(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Paint a label map (H, W) with RGB colours, and black for what is not a class."""
    labels = labels.astype(np.int64)  # binary heads predict floats
    known = (labels >= 0) & (labels < len(palette))
    colors = np.array([*palette, (0, 0, 0)], dtype=np.uint8)
    return colors[np.where(known, labels, len(palette))]


def draw_predictions(runners: dict[str, Runner], num_images: int) -> Figure:
    """Lay out images, ground truth and predictions in columns, with a legend."""
    dataset = next(iter(runners.values())).test_dataloader.dataset
    classes, palette = dataset.metainfo["classes"], dataset.metainfo["palette"]
    samples = list(evenly_spaced(dataset, num_images))
    columns = {"image": [to_rgb(s["inputs"]) for s in samples]}
    if "gt_sem_seg" in samples[0]["data_samples"]:
        truths = [s["data_samples"].gt_sem_seg.data[0].numpy() for s in samples]
        columns["ground truth"] = [colorize(truth, palette) for truth in truths]
    for name, runner in runners.items():
        samples = evenly_spaced(runner.test_dataloader.dataset, num_images)
        columns[name] = [colorize(predict(runner, s), palette) for s in samples]

    height, width = columns["image"][0].shape[:2]
    cell = 3.2  # inches
    size = (cell * len(columns), cell * height / width * len(columns["image"]) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(columns["image"]), len(columns), squeeze=False)
    for j, (title, pictures) in enumerate(columns.items()):
        # The name of a config is longer than its column, and has no space to break at.
        grid[0][j].set_title(fill(title.replace("_", " "), width=32), fontsize=9)
        for i, picture in enumerate(pictures):
            grid[i][j].imshow(picture)
            grid[i][j].axis("off")
    patches = [
        Patch(color=np.array(color) / 255, label=name)
        for name, color in zip(classes, palette, strict=True)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=10, fontsize=7)
    return figure


def tabulate(report: dict[str, dict]) -> PrettyTable:
    """A column per network; a row per figure, with all metrics of any test."""
    table = PrettyTable(["", *report], align="r")
    table.align[""] = "l"
    first, *_ = report.values()

    def add(title: str, form: str, *values: float | str | None) -> None:
        cells = ("-" if value is None else form.format(value) for value in values)
        table.add_row([title, *cells])

    sizes = (r["image_size"] for r in report.values())
    add("image", "{}", *(" x ".join(map(str, size)) for size in sizes))
    for part in ("backbone", "head", "macs"):
        title = f"GMACs, {'total' if part == 'macs' else part}"
        add(title, "{:.3f}", *(r[part] / 1e9 for r in report.values()))
    add("- vs first, %", "{:+.1f}",
        *(100 * (r["macs"] / first["macs"] - 1) for r in report.values()))  # fmt: skip
    add("parameters, 10^6", "{:.2f}", *(r["parameters"] / 1e6 for r in report.values()))
    add("latency, ms", "{:.1f}", *(r["latency_ms"] for r in report.values()))
    add("- speed-up", "{:.2f}x",
        *(first["latency_ms"] / r["latency_ms"] for r in report.values()))  # fmt: skip
    for metric in dict.fromkeys(m for r in report.values() for m in r["metrics"]):
        add(metric, "{:.2f}", *(r["metrics"].get(metric) for r in report.values()))
    return table


def main():
    args = parse_args()
    use_safe_loading()
    configs = [load_config(path, args.cfg_options) for path in args.configs]
    for cfg, path in zip(configs, args.configs, strict=True):
        cfg.work_dir = default_work_dir(cfg, path)
    checkpoints = args.checkpoints or [*map(find_checkpoint, configs, args.configs)]
    runners, report = {}, {}
    names = name_networks(args.configs, checkpoints)
    for name, cfg, checkpoint in zip(names, configs, checkpoints, strict=True):
        runners[name] = build_runner(name, cfg, checkpoint)
        metrics = runners[name].test()
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, Real)}
        report[name] = {"metrics": numbers}

    device, passes = get_device(), {}
    for name, runner in runners.items():
        sample = runner.test_dataloader.dataset[0]
        report[name]["image_size"] = [*sample["inputs"].shape[1:]]
        batch = runner.model.data_preprocessor(pseudo_collate([sample]))  # may pad
        size = tuple(batch["inputs"].shape[2:])
        windows = torch.rand(windows_shape(runner.cfg, size), device=device)
        report[name] |= count_complexity(runner.model, windows.shape).as_dict()
        passes[name] = partial(run, runner.model, windows)
    with torch.inference_mode():
        for name, latency in time_alternating(passes, args.repeats).items():
            report[name]["latency_ms"] = latency.median

    table = tabulate(report)
    table.title = f"one image, {device}"
    print(table)
    if args.json is not None:
        write_json(args.json, report)
    if args.picture is not None:
        write_figure(args.picture, draw_predictions(runners, args.num_images))
        print(f"predictions side by side: {args.picture}")


if __name__ == "__main__":
    main()
