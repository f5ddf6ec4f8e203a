"""Count and time every arm of the CamVid study, for one image of 360 x 480 on a CPU.

An image is taken as in the test, in windows, one after the other, and as a whole. All
arms take turns, with folded norms and in channels_last.
"""

from argparse import ArgumentParser
from functools import partial

import torch
from study.arms import ARMS, RESULTS
from torch import Tensor, nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config, windows_shape
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.files import write_json

IMAGE_SIZE = (360, 480)


@torch.inference_mode()
def run(model: nn.Module, windows: Tensor) -> None:
    """Run a segmentor on the windows of an image, (N, 3, H, W), one by one."""
    for window in windows.split(1):
        model(window.contiguous(memory_format=torch.channels_last))


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--repeats", type=int, default=20, help="default: 20")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    arms, calls = {}, {}
    for name, arm in ARMS.items():
        cfg = load_config(arm.config)
        model = build_model(cfg)
        fast = optimize_for_inference(model)
        shapes = {"": windows_shape(cfg, IMAGE_SIZE), "whole_": (1, 3, *IMAGE_SIZE)}
        arms[name] = {}
        for prefix, shape in shapes.items():
            count = count_complexity(model, shape)
            arms[name]["params"] = count.parameters / 1e6
            arms[name][f"{prefix}gmacs"] = count.macs / 1e9
            calls[name, prefix] = partial(run, fast, torch.rand(shape))
    for (name, prefix), latency in time_alternating(calls, args.repeats).items():
        arms[name][f"{prefix}ms"] = latency.median
    report = {"arms": arms, "image_size": IMAGE_SIZE} | provenance()
    write_json(RESULTS / "cost.json", report)


if __name__ == "__main__":
    main()
