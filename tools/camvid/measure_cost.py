"""Count and time every arm of the CamVid study, for one image of 360 x 480 on a CPU.

An image is tested in four windows, one after the other. All arms take turns, with
folded norms and in channels_last.
"""

import shlex
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from arms import ARMS, RESULTS

from mmseg_dynet.analysis.benchmark import inference_call
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import describe_machine
from mmseg_dynet.analysis.study import Cost
from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.files import write_json

# As the configs' test_cfg has it.
WINDOW = (1, 3, 240, 320)
NUM_WINDOWS = 4


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--repeats", type=int, default=20, help="default: 20")
    parser.add_argument(
        "--json", type=Path, default=Path(RESULTS, "cost.json"), metavar="FILE"
    )
    return parser.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    x = torch.rand(WINDOW).to(memory_format=torch.channels_last)
    macs, params, calls = {}, {}, {}
    for name, arm in ARMS.items():
        model = build_model(load_config(arm.config))
        macs[name] = NUM_WINDOWS * count_complexity(model, WINDOW).macs
        params[name] = sum(p.numel() for p in model.parameters())
        calls[name] = inference_call(optimize_for_inference(model), x)
    costs = {
        name: Cost(
            gmacs=macs[name] / 1e9,
            params=params[name] / 1e6,
            ms=1e3 * NUM_WINDOWS * median(seconds),
        )
        for name, seconds in time_alternating(calls, args.repeats).items()
    }
    report = {
        "arms": {name: asdict(cost) for name, cost in costs.items()},
        "window": WINDOW,
        "num_windows": NUM_WINDOWS,
        "machine": describe_machine(),
        "command": shlex.join(["python", *sys.argv]),
    }
    write_json(args.json, report)


if __name__ == "__main__":
    main()
