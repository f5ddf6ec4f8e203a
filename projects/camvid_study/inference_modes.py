"""Evaluate a trained segmentor on whole images, in windows, and with kernels kept.

Prints mIoU in percent and how far the coefficients are, on average, from those of the
whole image.
"""

from argparse import ArgumentParser
from pathlib import Path

from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS
from study.modes import WHOLE, compare_inference_modes, sliding_stride

from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.files import write_json


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument("checkpoint", help="path of the checkpoint")
    parser.add_argument(
        "--crop", type=int, nargs=2, default=(240, 320), metavar=("H", "W"),
        help="pixels of the windows, and of the centre crop (default: 240 320)",
    )  # fmt: skip
    parser.add_argument(
        "--reuse", type=int, nargs="*", default=[], metavar="N",
        help="keep kernels for N frames: the images in the order of their files",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_config(args.config)
    model = build_model(cfg, args.checkpoint).to(get_device())
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    evaluator = Evaluator(cfg.test_evaluator)
    crop = tuple(args.crop)
    modes = compare_inference_modes(model, dataset, evaluator, crop, args.reuse)
    whole = modes[WHOLE]["metrics"]["mIoU"]
    for name, mode in modes.items():
        score, moved = mode["metrics"]["mIoU"], mode["coefficient_difference"]
        mode["mIoU_change"] = score - whole
        print(f"{name:44} {score:6.2f} {'-' if moved is None else f'{moved:.4f}'}")
    if args.json is not None:
        report = dict(config=args.config, checkpoint=args.checkpoint, modes=modes)
        report |= dict(images=len(dataset), crop=crop, stride=sliding_stride(crop))
        report |= provenance(get_device())
        write_json(args.json, report)


if __name__ == "__main__":
    main()
