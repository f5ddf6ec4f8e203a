"""Evaluate a trained segmentor on whole images, in windows, and with kernels kept.

A dynamic network averages all pixels that it sees to choose its kernels. The table says
how far its mIoU and its coefficients move when it sees others than the whole image.
"""

import logging
from pathlib import Path

from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from study.inference_modes import (
    WHOLE,
    compare_inference_modes,
    sliding_stride,
    tabulate,
)

from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.files import write_json


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument("checkpoint", help="path of the checkpoint")
    parser.add_argument(
        "--crop",
        type=at_least(1),
        nargs=2,
        metavar=("H", "W"),
        help="size in pixels of the windows, and of the centre crop (default: the size "
        "that the config trains on)",
    )
    parser.add_argument(
        "--reuse",
        type=at_least(2),
        nargs="*",
        default=[2, 5, 10],
        metavar="N",
        help="keep kernels for N frames, images being frames in the order of their "
        "files (default: 2 5 10); without a number, skip that",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    return parser.parse_args()


def main():
    args = parse_args()
    # The metric logs a table of all classes each time.
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    cfg = load_config(args.config, args.cfg_options)
    crop_size = tuple(args.crop or input_size(cfg))
    model = build_model(cfg, args.checkpoint).to(get_device())
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    evaluator = Evaluator(cfg.test_evaluator)
    results = compare_inference_modes(model, dataset, evaluator, crop_size, args.reuse)

    report = {
        "config": args.config,
        "checkpoint": args.checkpoint,
        "images": len(dataset),
        "crop": crop_size,
        "stride": sliding_stride(crop_size),
        "modes": {
            name: {
                "metrics": result.metrics,
                "mIoU_change": result.metrics["mIoU"] - results[WHOLE].metrics["mIoU"],
                "coefficient_difference": result.coefficient_difference,
            }
            for name, result in results.items()
        },
    } | provenance(get_device())
    print(tabulate(report))
    if args.json is not None:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
