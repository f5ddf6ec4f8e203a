"""Is the router alive? Show what a trained network's coefficients do over test images.

Between-image std: how much a coefficient varies from image to image, also as a share of
how much all coefficients of the layer vary. At 0 the layer is a static one. Dead and
saturated kernels: coefficient below 0.05, or above 0.95, on every image.
"""

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from rich.progress import track
from torch.utils.data import DataLoader

from mmseg_dynet.analysis.coefficients import (
    CoefficientRecorder,
    CoefficientSummary,
    average,
    draw_coefficients,
    tabulate,
)
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, spread
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.files import write_figure, write_json


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument("checkpoint", help="a checkpoint of its model")
    parser.add_argument(
        "--num-images",
        type=at_least(2),
        metavar="N",
        help="take N of the test images, evenly spread (default: all)",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the layers (PNG, SVG, PDF)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    return parser.parse_args()


def build_test_loader(cfg: Config, num_images: int | None) -> DataLoader:
    subset = spread(DATASETS.build(cfg.test_dataloader.dataset), num_images)
    return Runner.build_dataloader({**cfg.test_dataloader, "dataset": subset})


def record(args: Namespace) -> dict[str, CoefficientSummary]:
    cfg = load_config(args.config, args.cfg_options)
    model = build_model(cfg, args.checkpoint).to(get_device())
    with CoefficientRecorder(model) as recorder, torch.inference_mode():
        loader = build_test_loader(cfg, args.num_images)
        for batch in track(loader, "images", transient=True):
            model.test_step(batch)
    return recorder.summarize()


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
        write_figure(args.plot, draw_coefficients(layers))


if __name__ == "__main__":
    main()
