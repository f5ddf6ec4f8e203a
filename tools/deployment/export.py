"""Export a config's model to ONNX or torch.export, if it then computes the same.

The file takes RGB images, uint8, and gives logits of their size; it holds the classes
and the palette of the config's test data set.
"""

import logging
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from prettytable import PrettyTable
from torch import nn

from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.deploy.export import (
    INPUT,
    OPSET,
    OUTPUT,
    export_onnx,
    export_program,
    onnx_difference,
    program_difference,
)
from mmseg_dynet.files import replacing
from mmseg_dynet.models.blocks import DyBasicBlock, DyBottleneck

FORMATS = {
    ".onnx": (f"ONNX, opset {OPSET}", export_onnx, onnx_difference),
    ".pt2": (f"torch.export, torch {torch.__version__}", export_program,
             program_difference),
}  # fmt: skip
# The largest difference of a logit from PyTorch's, absolute.
TOLERANCE = 1e-4


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="weights (default: freshly drawn ones)"
    )
    parser.add_argument(
        "--shape",
        type=at_least(1),
        nargs=2,
        metavar=("H", "W"),
        help="input size in pixels (default: the size that the config trains on)",
    )
    parser.add_argument(
        "--dynamic-shape",
        action="store_true",
        help="let the number of images and their size vary (default: one image of "
        "the shape)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"the file to write; its ending is one of {', '.join(FORMATS)}",
    )
    args = parser.parse_args()
    if args.out.suffix not in FORMATS:
        parser.error(
            f"--out {args.out}: the ending says the format, one of {', '.join(FORMATS)}"
        )
    return args


def read_classes(cfg: Config) -> dict[str, list]:
    # Lazy: no file of the data set is looked for.
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True))
    return {name: list(dataset.metainfo[name]) for name in ("classes", "palette")}


def build(cfg: Config, checkpoint: str | None) -> nn.Module:
    """The model to export; without a checkpoint, the same one each time."""
    if checkpoint is not None:
        return build_model(cfg, checkpoint)
    torch.manual_seed(0)
    model = build_model(cfg)
    # Residual branches that count in full would make the logits of Dy-ResNet50 so large
    # that float32 rounds them by the tolerance.
    for block in model.modules():
        if isinstance(block, DyBasicBlock | DyBottleneck):
            nn.init.constant_(getattr(block, block.last_norm).weight, 0.5)
    return model


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    height, width = args.shape or input_size(cfg)
    model = build(cfg, args.checkpoint)
    name, export, difference = FORMATS[args.out.suffix]

    shapes = [(1, 3, height, width)]
    if args.dynamic_shape:
        shapes += [(2, 3, height + 9, width + 23), (3, 3, height + 24, width + 14)]
    sizes = ("B", 3, "H", "W") if args.dynamic_shape else shapes[0]
    table = PrettyTable(["", args.out.name], align="l")
    table.add_row(["format", name])
    for port, dtype, channels in (
        (INPUT, "uint8, RGB", sizes[1]),
        (OUTPUT, "float32", model.out_channels),
    ):
        shape = f"{sizes[0]} x {channels} x {sizes[2]} x {sizes[3]}"
        table.add_row([port, f"{shape}, {dtype}"])

    # It lists the packages that it could have exported, too.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as partial:
        export(model, (height, width), partial, args.dynamic_shape, read_classes(cfg))
        table.add_row(["file, MB", f"{partial.stat().st_size / 1e6:.1f}"])
        for shape in shapes:
            images = torch.randint(0, 256, shape, dtype=torch.uint8)
            found = difference(model, partial, images)
            label = " x ".join(map(str, shape))
            table.add_row([f"difference at {label}", f"{found:.1e}"])
            if not found <= TOLERANCE:  # neither is NaN
                sys.exit(
                    f"{args.out} is not written: at {label} its logits differ by up to "
                    f"{found:.1e} from PyTorch's, more than {TOLERANCE:.0e}"
                )
    print(table)


if __name__ == "__main__":
    main()
