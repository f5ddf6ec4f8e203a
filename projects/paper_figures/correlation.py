"""Correlations between the channels of a backbone's feature map: DyNet's figure 6.

Prints and draws how the Pearson correlations of all pairs of channels are distributed,
over all pixels of a config's test images, for one network or for several. The backbone
sees whole images.
"""

from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from figures.channels import (
    BIN_LEGEND,
    ChannelCorrelation,
    draw_correlations,
    summarize,
)
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS
from rich.progress import track
from torch import Tensor, nn

from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.files import write_figure, write_json


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of a config (Python: it is executed)")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument(
        "--vs", nargs=2, action="append", default=[], metavar=("CONFIG", "CHECKPOINT"),
        help="a further network; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--stage", type=int, default=-2, metavar="N",
        help="index of the backbone's outputs (default: -2, the second-last)",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE", help="PNG, SVG or PDF")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser.parse_args()


@torch.inference_mode()
def correlate(model: nn.Module, samples: Iterable[dict], stage: int) -> np.ndarray:
    """Return the correlations (C, C) between the channels of a backbone's output."""
    correlation = ChannelCorrelation()
    for sample in samples:
        images = model.data_preprocessor(pseudo_collate([sample]))["inputs"]
        outputs = model.backbone(images)
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        correlation.update(outputs[stage])
    return correlation.matrix()


def main():
    args = parse_args()
    matrices, records = {}, []
    for config, checkpoint in [(args.config, args.checkpoint), *args.vs]:
        cfg = load_config(config)
        model = build_model(cfg, checkpoint).to(get_device())
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        indices = track(range(len(dataset)), "correlating", transient=True)
        matrix = correlate(model, (dataset[i] for i in indices), args.stage)
        name = f"{Path(config).stem}, {checkpoint}"
        matrices[name] = matrix
        record = dict(config=config, checkpoint=checkpoint, images=len(dataset))
        records.append(record | summarize(matrix))
        print(name, *(f"  {k}: {v}" for k, v in summarize(matrix).items()), sep="\n")
    print(BIN_LEGEND)
    if args.json is not None:
        report = dict(stage=args.stage, networks=records) | provenance(get_device())
        write_json(args.json, report)
    if args.plot is not None:
        write_figure(args.plot, draw_correlations(matrices))


if __name__ == "__main__":
    main()
