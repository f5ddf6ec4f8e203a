"""Turn a static checkpoint into one of the dynamic network that computes the same.

Example:
    python tools/model_converters/static2dynet.py resnet18-f37072fd.pth dy-resnet18.pth
"""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction
from prettytable import PrettyTable

from mmseg_dynet.engine.checkpoint import read_checkpoint, weights_of
from mmseg_dynet.files import replacing
from mmseg_dynet.models.from_static import Conversion, to_dynamic

# Entries of a checkpoint's meta that do not depend on the network: its classes, as
# MMSegmentation 1.x and 0.x write them.
META = ("dataset_meta", "CLASSES", "PALETTE")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Turn the weights of a ResNet, MobileNetV2 or MobileNetV3 into "
        "those of the dynamic network of the same width, with equal outputs. Heads "
        "beside a backbone are kept."
    )
    parser.add_argument("checkpoint", help="of the static network: file or address")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument(
        "--num-kernels",
        type=int,
        default=6,
        metavar="K",
        help="fixed kernels per output channel, the paper's g_t (default: 6)",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--coefficients",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="how to predict them, such as static_kernel=True (default: as in DyNet)",
    )
    return parser.parse_args()


def describe(conversion: Conversion) -> PrettyTable:
    """Summarise what was read and what was made of it."""
    parts = dict.fromkeys(name.split(".")[0] for name in conversion.state_dict)
    weights = conversion.state_dict
    banks = [weight for weight in weights.values() if weight.ndim == 5]
    table = PrettyTable(["static", conversion.source], align="l")
    table.add_rows([
        ["convolutions made dynamic", len(banks)],
        ["values in their kernels, 10^6", f"{sum(b.numel() for b in banks) / 1e6:.2f}"],
        ["weights of", ", ".join(parts)],
    ])  # fmt: skip
    return table


def as_option(backbone: dict) -> str:
    """Write a backbone as in a config."""
    options = ", ".join(f"{key}={value!r}" for key, value in backbone.items())
    return f"backbone=dict({options})"


def main() -> None:
    """Convert, or exit with what is wrong with the checkpoint."""
    args = parse_args()
    try:
        checkpoint = read_checkpoint(args.checkpoint)
        conversion = to_dynamic(
            weights_of(checkpoint),
            args.num_kernels,
            args.seed,
            args.coefficients,
        )
        meta = checkpoint.get("meta", {})
        content = dict(
            meta={key: meta[key] for key in META if key in meta},
            state_dict=conversion.state_dict,
        )
        # An open file: PyTorch would store the name of a path.
        with replacing(args.out) as partial, partial.open("wb") as file:
            torch.save(content, file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(describe(conversion))
    print(as_option(conversion.backbone))
    if conversion.mmpretrain_backbone:
        print("or, if the weights are mmpretrain's, which have the same names:")
        print(as_option(conversion.mmpretrain_backbone))


if __name__ == "__main__":
    main()
