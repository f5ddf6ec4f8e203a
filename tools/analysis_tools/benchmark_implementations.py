"""Time the implementations of dynamic convolution on single layers, in turns.

The rule `choose` in mmseg_dynet/ops/per_image.py follows this table. "static" is one
kernel for all images; what the others take longer is the price of a kernel per image.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from prettytable import PrettyTable
from torch import Tensor

from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.cli import at_least
from mmseg_dynet.files import write_json
from mmseg_dynet.ops import conv2d_per_image, force_implementation
from mmseg_dynet.ops.per_image import choose

NAMES = ("grouped", "loop", "matmul")  # the last for 1x1 kernels
SIDES = ("static", *NAMES)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# Images, C, O, kernel, H, W, G: layers of Dy-ResNet at 256 x 512 and at 224 x 224, of
# Dy-mobile, and of a head.
LAYERS = (
    (1, 36, 36, 1, 28, 28, 1),
    (1, 256, 1024, 1, 7, 7, 1),
    (1, 256, 64, 1, 32, 64, 1),
    (1, 64, 64, 3, 32, 64, 1),
    (2, 256, 64, 1, 32, 64, 1),
    (2, 64, 64, 3, 32, 64, 1),
    (2, 256, 256, 3, 32, 64, 1),
    (2, 1024, 256, 1, 32, 64, 1),
    (4, 32, 32, 3, 64, 128, 1),
    (8, 128, 128, 3, 15, 20, 1),
    (8, 18, 18, 3, 112, 112, 3),
    (16, 256, 64, 1, 28, 28, 1),
    (16, 64, 64, 3, 28, 28, 1),
    (16, 96, 96, 3, 14, 14, 16),
)


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--threads", type=at_least(1), help="threads (default: PyTorch's)"
    )
    parser.add_argument("--repeats", type=at_least(1), default=10, help="default: 10")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    return parser.parse_args()


def make_calls(layer: tuple[int, ...], memory_format: torch.memory_format, train: bool):
    batch, channels, out_channels, side, height, width, groups = layer
    x = torch.rand(batch, channels, height, width)
    x = x.contiguous(memory_format=memory_format).requires_grad_(train)
    # In the memory format of x, as fuse_kernels makes them.
    kernels = torch.rand(batch * out_channels, channels // groups, side, side)
    kernels = kernels.contiguous(memory_format=memory_format)
    kernels = kernels.unflatten(0, (batch, out_channels)).requires_grad_(train)
    padding = side // 2

    def step(convolve: Callable[[], Tensor]) -> None:
        out = convolve()
        if train:
            out.backward(out.detach())

    def dynamic(name: str) -> None:
        with force_implementation(name):
            step(lambda: conv2d_per_image(x, kernels, padding=padding, groups=groups))

    calls = {
        "static": lambda: step(
            lambda: F.conv2d(x, kernels[0], padding=padding, groups=groups)
        )
    }
    for name in NAMES if side == groups == 1 else NAMES[:2]:
        calls[name] = lambda name=name: dynamic(name)
    return calls, choose(x, kernels, groups)


def main():
    args = parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    table = PrettyTable(
        ["B", "C", "O", "kernel", "H", "W", "G", "format", "pass"]
        + [f"{name}, ms" for name in SIDES]
        + ["chosen"],
        align="r",
    )
    rows = []
    for layer in LAYERS:
        for format_name, memory_format in FORMATS.items():
            for train in (False, True):
                calls, chosen = make_calls(layer, memory_format, train)
                seconds = time_alternating(calls, args.repeats)
                times = {name: 1e3 * median(values) for name, values in seconds.items()}
                what = "training" if train else "inference"
                table.add_row(
                    [*layer, format_name, what]
                    + [f"{times[n]:.2f}" if n in times else "-" for n in SIDES]
                    + [chosen]
                )
                rows.append(
                    dict(layer=layer, format=format_name, train=train, chosen=chosen)
                    | {f"{name}_ms": t for name, t in times.items()}
                )
    origin = provenance()
    print(table)
    print(origin["machine"])
    if args.json is not None:
        write_json(args.json, origin | {"rows": rows})


if __name__ == "__main__":
    main()
