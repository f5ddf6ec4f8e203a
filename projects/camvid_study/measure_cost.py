"""Count and time every arm of the CamVid study, for one image of 360 x 480 on a CPU.

An image is taken as in the test, in windows, one after the other, and as a whole. All
arms take turns, with folded norms and in channels_last.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from study.arms import ARMS, RESULTS
from study.study import Cost
from torch import nn

from mmseg_dynet.analysis.benchmark import inference_call
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, windows_shape
from mmseg_dynet.cli import at_least, load_config
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.files import write_json

IMAGE_SIZE = (360, 480)


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=at_least(1), default=2, help="default: 2")
    parser.add_argument("--repeats", type=at_least(1), default=20, help="default: 20")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "cost.json", metavar="FILE"
    )
    return parser.parse_args()


def call_on_each(model: nn.Module, shape: Sequence[int]) -> Callable[[], None]:
    """Make a call that runs the network on windows, (N, 3, H, W), one by one."""
    num_windows, *window = shape
    x = torch.rand(1, *window).to(memory_format=torch.channels_last)
    call = inference_call(model, x)

    def call_each() -> None:
        for _ in range(num_windows):
            call()

    return call_each


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    counts, calls = {}, {}
    for name, arm in ARMS.items():
        cfg = load_config(arm.config)
        model = build_model(cfg)
        fast = optimize_for_inference(model)
        for whole, shape in (
            (False, windows_shape(cfg, IMAGE_SIZE)),
            (True, (1, 3, *IMAGE_SIZE)),
        ):
            counts[name, whole] = count_complexity(model, shape)
            calls[name, whole] = call_on_each(fast, shape)
    seconds = time_alternating(calls, args.repeats)
    costs = {
        name: Cost(
            params=counts[name, False].parameters / 1e6,
            gmacs=counts[name, False].macs / 1e9,
            ms=1e3 * median(seconds[name, False]),
            whole_gmacs=counts[name, True].macs / 1e9,
            whole_ms=1e3 * median(seconds[name, True]),
        )
        for name in ARMS
    }
    report = {
        "arms": {name: asdict(cost) for name, cost in costs.items()},
        "image_size": IMAGE_SIZE,
    } | provenance()
    write_json(args.json, report)


if __name__ == "__main__":
    main()
