"""Export a config's model, and check that the file computes the same.

The file maps images, uint8, to logits of their size. It holds the classes and the
palette of the config's test data set and, for a network of one logit, the threshold of
its sigmoid.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.config import Config
from prettytable import PrettyTable
from torch import nn

from mmseg_dynet.apis import (
    build_model,
    classes_and_palette,
    inner_datasets,
    input_channels,
    input_size,
    load_config,
)
from mmseg_dynet.cli import at_least, config_parser
from mmseg_dynet.deploy.export import (
    INPUT,
    OPSET,
    OUTPUT,
    export,
    run_exported,
    run_segmentor,
)

NAMES = {
    ".onnx": f"ONNX, opset {OPSET}",
    ".xml": "OpenVINO, weights in the .bin beside it",
    ".pt2": f"torch.export, torch {torch.__version__}",
}
# Steps of a test pipeline that the file has, or that docs/deployment.md names.
KNOWN_STEPS = ("Load", "Resize", "Pack", "TestTimeAug")
# The largest difference from PyTorch's logits, as a share of the largest of them, or
# absolute if they are all below 1.
TOLERANCE = 1e-4


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="weights (default: random ones)"
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
        help="the file to write: .onnx, .xml for OpenVINO or .pt2 for torch.export",
    )
    args = parser.parse_args()
    if args.out.suffix not in NAMES:
        parser.error(f"--out {args.out}: the file must end in {' or '.join(NAMES)}")
    return args


def read_metadata(cfg: Config, model: nn.Module) -> dict[str, object]:
    classes, palette = classes_and_palette(cfg)
    metadata = dict(classes=classes, palette=palette)
    if model.out_channels == 1:
        head = model.decode_head  # or several, of which the last one predicts
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        metadata["threshold"] = head.threshold
    return metadata


def other_steps(cfg: Config) -> list[str]:
    """Steps of the test pipeline that change images, and that the file leaves out."""
    _, data = next(inner_datasets(cfg.test_dataloader.dataset))
    types = (step["type"] for step in data.get("pipeline", []))
    # Without a scope; of a class, the name.
    names = (getattr(t, "__name__", t).rpartition(".")[2] for t in types)
    return [name for name in names if not name.startswith(KNOWN_STEPS)]


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    torch.manual_seed(0)
    model = build_model(cfg, args.checkpoint)
    height, width = args.shape or input_size(cfg)
    channels = input_channels(cfg)

    shapes = [(1, channels, height, width)]
    if args.dynamic_shape:
        shapes += [(2, channels, height + 9, width + 23),
                   (3, channels, height + 24, width + 14)]  # fmt: skip
    batch, *size = ("B", "H", "W") if args.dynamic_shape else (1, height, width)
    colors = "RGB" if channels == 3 else "channels as the config's pipeline loads them"
    table = PrettyTable(["", args.out.name], align="l")
    table.add_row(["format", NAMES[args.out.suffix]])
    for port, number, what in (
        (INPUT, channels, f"uint8, {colors}"),
        (OUTPUT, model.out_channels, "float32"),
    ):
        port_shape = " x ".join(map(str, (batch, number, *size)))
        table.add_row([port, f"{port_shape}, {what}"])

    if others := other_steps(cfg):
        what = f"{', '.join(others)}: apply to images first"
        table.add_row(["not in the file", what])
    metadata = read_metadata(cfg, model)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # The file gets its place after the check; OpenVINO's has another beside it.
    with TemporaryDirectory(dir=args.out.parent, prefix=".export") as folder:
        partial = Path(folder, args.out.name)
        export(model, shapes[0][1:], partial, args.dynamic_shape, metadata)
        files = sorted(Path(folder).iterdir())
        size = sum(file.stat().st_size for file in files)
        table.add_row(["file, MB", f"{size / 1e6:.1f}"])
        for shape in shapes:
            images = torch.randint(0, 256, shape, dtype=torch.uint8)
            expected = run_segmentor(model, images)
            found = (run_exported(partial, images) - expected).abs().max().item()
            allowed = TOLERANCE * max(1.0, expected.abs().max().item())
            label = " x ".join(map(str, shape))
            table.add_row([f"difference at {label}", f"{found:.1e}"])
            if not found <= allowed:  # neither is NaN
                sys.exit(
                    f"{args.out} is not written: at {label} its logits differ by up to "
                    f"{found:.1e} from PyTorch's, more than {allowed:.1e}"
                )
        for file in files:  # .bin before .xml
            os.replace(file, args.out.parent / file.name)
    print(table)


if __name__ == "__main__":
    main()
