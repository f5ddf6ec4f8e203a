"""Time networks on a GPU beside static twin and control: the last part of gpu.sh.

The three take turns, in channels_last, with random weights and images. Inference has
folded batch norms and weights in bfloat16; training has autocast to bfloat16. The file
networks.json grows with each row; the most important come first.
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError, check_output
from time import perf_counter

import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmseg_dynet.analysis.latency import (
    inference_call,
    synchronize,
    time_alternating,
    training_call,
)
from mmseg_dynet.analysis.machine import peak_resident_memory, provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.cli import at_least
from mmseg_dynet.deploy import fold_bn
from mmseg_dynet.files import write_json
from mmseg_dynet.models.paper_networks import NETWORKS

CONFIGS = Path(__file__).resolve().parents[1] / "configs/dynet"
FCN = "4xb2-80k_cityscapes-512x1024.py"
DDRNET = "in1k-pre_2xb6-120k_cityscapes-1024x1024.py"
# Static twin, control and dynamic network: configs, or networks of the paper.
SIDES = ("static", "control", "dynamic")
GROUPS = {
    "fcn-r50": (f"fcn_r50-d8_{FCN}", f"fix-r50-d8_fcn_{FCN}", f"dy-r50-d8_fcn_{FCN}"),
    "ddrnet-23": (f"ddrnet_23_{DDRNET}", f"ddrnet_23-slim_{DDRNET}",
                  f"dy-ddrnet_23_{DDRNET}"),
    "resnet18": ("ResNet18", None, "Dy-ResNet18"),
    "resnet50": ("ResNet50", None, "Dy-ResNet50"),
}  # fmt: skip
# Group, images, height, width, whether it is a training step, whether it is compiled.
ROWS = (
    ("fcn-r50", 1, 512, 1024, False, False),
    ("fcn-r50", 8, 512, 1024, False, False),
    ("fcn-r50", 2, 512, 1024, True, False),
    ("resnet50", 64, 224, 224, True, False),
    ("resnet50", 256, 224, 224, True, False),
    ("resnet18", 256, 224, 224, True, False),
    ("ddrnet-23", 1, 512, 1024, False, False),
    ("ddrnet-23", 8, 512, 1024, False, False),
    ("resnet18", 64, 64, 64, True, False),
    ("fcn-r50", 8, 512, 1024, False, True),
    ("ddrnet-23", 8, 512, 1024, False, True),
    ("ddrnet-23", 2, 512, 1024, True, False),
    ("fcn-r50", 1, 512, 1024, False, True),
    ("ddrnet-23", 1, 512, 1024, False, True),
    ("resnet50", 64, 224, 224, True, True),
    ("fcn-r50", 2, 512, 1024, True, True),
)
SHRINK = 8  # each side of an image, and each batch, to try everything out on a CPU


def build(name: str) -> nn.Module:
    """A network with random weights."""
    if name in NETWORKS:
        return NETWORKS[name](6)
    return build_model(load_config(str(CONFIGS / name)))


def make_call(name: str, shape: tuple, train: bool, compiled: bool, device: str):
    """A call that runs one forward pass, or one training step."""
    model = build(name)
    x = torch.rand(shape, device=device).to(memory_format=torch.channels_last)
    if not train:
        model = fold_bn(model).to(device, torch.bfloat16)
        model = model.to(memory_format=torch.channels_last)
        return inference_call(model, x.bfloat16(), compiled)
    classes = getattr(model, "num_classes", 1000)
    model = model.to(device, memory_format=torch.channels_last)
    model = torch.compile(model) if compiled else model
    return training_call(model, x, classes, torch.bfloat16)


def peak_megabytes(call: Callable[[], object], device: str) -> float | None:
    """The most memory in use during a call; on a CPU, in this process so far."""
    if device == "cpu":
        peak = peak_resident_memory()
    else:
        torch.cuda.reset_peak_memory_stats()
        call()
        synchronize()
        peak = torch.cuda.max_memory_allocated()
    return peak and peak / 1e6


def measure(row: tuple, device: str, repeats: int) -> dict:
    """Time the sides of a row in turns; a side that fails has an error instead."""
    group, batch, height, width, train, compiled = row
    record = dict(group=group, shape=[batch, 3, height, width], train=train,
                  compiled=compiled, dtype="bfloat16")  # fmt: skip
    calls = {}
    for side, name in zip(SIDES, GROUPS[group], strict=True):
        if name is None:
            continue
        record[side] = name
        call = None  # frees the side before
        try:
            held = torch.cuda.memory_allocated() if device == "cuda" else 0
            call = make_call(name, (batch, 3, height, width), train, compiled, device)
            call()
            peak = peak_megabytes(call, device)
            record[f"{side}_peak_mb"] = peak and peak - held / 1e6
            calls[side] = call
        except RuntimeError as error:  # out of memory, or a compiler's
            record[f"{side}_error"] = str(error)[:300]
    try:
        timings = time_alternating(calls, repeats)
    except RuntimeError as error:  # out of memory: all sides are held now
        return record | {"error": str(error)[:300]}
    for side, latency in timings.items():
        record |= latency.as_dict(side)
    if "static" in calls and "dynamic" in calls:
        record["ratio"] = record["static_ms"] / record["dynamic_ms"]
    return record


def driver() -> str | None:
    """The version of NVIDIA's driver."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return check_output(query, text=True).split("\n")[0]
    except (OSError, CalledProcessError):
        return None


def parse_args() -> Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cpu tries it out, small")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gpu"))
    parser.add_argument("--repeats", type=at_least(2), default=10, help="default: 10")
    parser.add_argument("--seconds", type=at_least(1), help="begin no row after them")
    return parser.parse_args()


def main() -> None:
    """Measure row by row, until the time is over."""
    args = parse_args()
    start = perf_counter()
    init_default_scope("mmseg")
    logging.disable(logging.INFO)  # the reports of dynamized networks
    origin = provenance(args.device)
    origin |= dict(cuda=torch.version.cuda, driver=driver())
    print(origin)
    torch.backends.cudnn.benchmark = True  # as the configs train
    records = []
    for group, batch, height, width, train, compiled in ROWS:
        if args.seconds and perf_counter() - start > args.seconds:
            print(f"{args.seconds} seconds are over")
            return
        if args.device == "cpu":
            batch = max(2, batch // SHRINK**2)
            height, width = height // SHRINK, width // SHRINK
        row = (group, batch, height, width, train, compiled)
        torch.compiler.reset()
        record = measure(row, args.device, args.repeats)
        task = ("training-" if train else "") + ("compile" if compiled else "eager")
        name = f"{group}-{batch}x{height}x{width}-{task}"
        figures = {
            k: v for k, v in record.items() if k.endswith(("_ms", "mb", "ratio"))
        }
        print(name, figures, flush=True)
        records.append({"name": name} | record)
        write_json(args.out / "networks.json", origin | {"rows": records})


if __name__ == "__main__":
    main()
