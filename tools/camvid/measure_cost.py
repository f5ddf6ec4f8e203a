"""Count and time every arm of the CamVid study, for one image of 360 x 480 on a CPU.

All arms take turns, with folded norms and in channels_last.
"""

import shlex
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from arms import CONFIGS, OUTCOMES, config_path

from mmseg_dynet.analysis.benchmark import inference_call
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import describe_machine
from mmseg_dynet.analysis.study import Cost
from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.files import write_json

SHAPE = (1, 3, 360, 480)


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--repeats", type=int, default=20, help="default: 20")
    parser.add_argument(
        "--json", type=Path, default=Path(OUTCOMES, "cost.json"), metavar="FILE"
    )
    return parser.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    x = torch.rand(SHAPE).to(memory_format=torch.channels_last)
    macs, params, calls = {}, {}, {}
    for arm in CONFIGS:
        model = build_model(load_config(config_path(arm)))
        macs[arm] = count_complexity(model, SHAPE).macs
        params[arm] = sum(p.numel() for p in model.parameters())
        calls[arm] = inference_call(optimize_for_inference(model), x)
    costs = {
        arm: Cost(
            gmacs=macs[arm] / 1e9,
            params=params[arm] / 1e6,
            ms=1e3 * median(seconds),
        )
        for arm, seconds in time_alternating(calls, args.repeats).items()
    }
    report = {
        "arms": {arm: asdict(cost) for arm, cost in costs.items()},
        "shape": SHAPE,
        "machine": describe_machine(),
        "command": shlex.join(["python", *sys.argv]),
    }
    write_json(args.json, report)


if __name__ == "__main__":
    main()
