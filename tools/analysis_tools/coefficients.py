"""Do the coefficients vary? Show those of a trained network over the test images.

Between-image std: how much a coefficient varies from image to image, also as a share of
how much all coefficients of the layer vary. At 0 the layer is a static one. Dead and
saturated kernels: coefficient below 0.05, or above 0.95, sign aside, on every image.
"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from prettytable import PrettyTable
from rich.progress import track
from torch.utils.data import DataLoader

from mmseg_dynet.analysis.coefficients import (
    CoefficientRecorder,
    CoefficientSummary,
    average,
)
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, evenly_spaced, load_config
from mmseg_dynet.cli import at_least, config_parser
from mmseg_dynet.files import write_figure, write_json


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument("checkpoint", help="a checkpoint of its model")
    parser.add_argument(
        "--num-images",
        type=at_least(2),
        metavar="N",
        help="take N of the test images, evenly spaced (default: all)",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the layers (PNG, SVG, PDF)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    return parser.parse_args()


def build_test_loader(cfg: Config, num_images: int | None) -> DataLoader:
    subset = evenly_spaced(DATASETS.build(cfg.test_dataloader.dataset), num_images)
    return Runner.build_dataloader({**cfg.test_dataloader, "dataset": subset})


def record(args: Namespace) -> dict[str, CoefficientSummary]:
    cfg = load_config(args.config, args.cfg_options)
    model = build_model(cfg, args.checkpoint).to(get_device())
    with CoefficientRecorder(model) as recorder, torch.inference_mode():
        loader = build_test_loader(cfg, args.num_images)
        for batch in track(loader, "images", transient=True):
            model.test_step(batch)
    return recorder.summarize()


def tabulate(report: Mapping) -> PrettyTable:
    """A row per layer and one for all, of a report as --json writes it."""
    layers = report["layers"]
    table = PrettyTable(
        ["layer", "K", "mean", "between-image std", "share of std, %", "dead, %",
         "saturated, %"], align="r",
    )  # fmt: skip
    table.align["layer"] = "l"
    num_images = next(iter(layers.values()))["num_images"]
    table.title = f"coefficients over {num_images} images or windows"
    for name, row in (*layers.items(), ("all", report["average"])):
        shares = (row[k] for k in ("between_image_share", "dead", "saturated"))
        table.add_row([
            name, row.get("num_kernels", ""), f"{row['mean']:.3f}",
            f"{row['between_image_std']:.4f}", *(f"{100 * x:.1f}" for x in shares),
        ])  # fmt: skip
    return table


def draw(layers: Mapping[str, CoefficientSummary]) -> Figure:
    """Plot a line per layer: its coefficients, and how they vary."""
    summaries, rows = list(layers.values()), range(len(layers))
    figure = Figure(figsize=(12, 1.5 + 0.2 * len(layers)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1))
    coefficients, variation, extremes = panels

    total = [s.total_std for s in summaries]
    means = [s.mean for s in summaries]
    coefficients.errorbar(means, rows, xerr=total, fmt="|", label="mean and std")
    coefficients.set(xlabel="coefficient")

    variation.barh(rows, total, color="lightgray", label="all")
    between = [s.between_image_std for s in summaries]
    variation.barh(rows, between, label="between images")
    variation.set(xlabel="standard deviation")

    dead = [100 * s.dead for s in summaries]
    extremes.barh(rows, dead, label="dead")
    saturated = [100 * s.saturated for s in summaries]
    extremes.barh(rows, saturated, left=dead, label="saturated")
    extremes.set(xlim=(0, 100), xlabel="fixed kernels, %")

    for axes in panels:
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    coefficients.set_yticks(rows, list(layers), fontsize=7)
    coefficients.set_ylim(len(layers) - 0.5, -0.5)  # the first layer at the top
    return figure


def main():
    args = parse_args()
    layers = record(args)
    report = {
        "config": args.config,
        "checkpoint": args.checkpoint,
        "average": average(layers),
        "layers": {name: asdict(layer) for name, layer in layers.items()},
    } | provenance(get_device())
    print(tabulate(report))
    if args.json is not None:
        write_json(args.json, report)
    if args.plot is not None:
        write_figure(args.plot, draw(layers))


if __name__ == "__main__":
    main()
