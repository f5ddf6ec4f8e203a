"""Correlation between the channels of a backbone's feature map: DyNet's study.

Prints and draws how the Pearson correlations of all pairs of channels are distributed,
over the pixels of the config's test images, for one network or for several. The
backbone sees whole images, also where the config tests in windows.
"""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from figures.correlation import (
    BIN_EDGES,
    BIN_LEGEND,
    PAPER_RANGE,
    ChannelCorrelation,
    Summary,
    draw_correlations,
    label,
    tabulate,
)
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS
from rich.progress import track
from torch import Tensor, nn

from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, spread
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.files import write_figure, write_json


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of a config (Python: it is executed)")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument(
        "--vs",
        nargs=2,
        action="append",
        default=[],
        metavar=("CONFIG", "CHECKPOINT"),
        help="a further network; may be given several times",
    )
    parser.add_argument(
        "--stage",
        type=int,
        default=-2,
        metavar="N",
        help="index of the backbone's outputs, which are those of its out_indices "
        "(default: -2, the second-last)",
    )
    parser.add_argument(
        "--num-images",
        type=at_least(1),
        metavar="N",
        help="images, evenly spread over the test set (default: all)",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw histograms (PNG, SVG, PDF)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser.parse_args()


def pick_output(outputs: Sequence[Tensor], stage: int) -> Tensor:
    count = len(outputs)
    if stage not in range(-count, count):
        raise ValueError(
            f"no stage {stage} among the {count} outputs of the backbone: give --stage "
            f"from {-count} to {count - 1}, or change the outputs with --cfg-options "
            "model.backbone.out_indices"
        )
    return outputs[stage]


@torch.inference_mode()
def correlate(model: nn.Module, samples: Iterable[dict], stage: int) -> np.ndarray:
    """The correlations (C, C) between the channels of an output of the backbone."""
    correlation = ChannelCorrelation()
    for sample in samples:
        images = model.data_preprocessor(pseudo_collate([sample]))["inputs"]
        correlation.update(pick_output(model.backbone(images), stage))
    return correlation.matrix()


def study(config: str, checkpoint: str, args: Namespace) -> tuple[dict, np.ndarray]:
    """One network's record, and the matrix of its correlations."""
    cfg = load_config(config, args.cfg_options)
    model = build_model(cfg, checkpoint).to(get_device())
    samples = spread(DATASETS.build(cfg.test_dataloader.dataset), args.num_images)
    matrix = correlate(model, track(samples, "correlating", transient=True), args.stage)
    record = {"config": config, "checkpoint": checkpoint, "images": len(samples)}
    return record | asdict(Summary.of(matrix)), matrix


def main():
    args = parse_args()
    networks = [(args.config, args.checkpoint), *args.vs]
    studies = [study(*network, args) for network in networks]
    report = {
        "stage": args.stage,
        "bin_edges": BIN_EDGES,
        "paper_range": PAPER_RANGE,
        "networks": [record for record, _ in studies],
    } | provenance(get_device())
    print(tabulate(report))
    print(BIN_LEGEND)
    if args.json is not None:
        write_json(args.json, report)
    if args.plot is not None:
        figure = draw_correlations((label(record), m) for record, m in studies)
        write_figure(args.plot, figure)


if __name__ == "__main__":
    main()
