"""Time each step on the way from a network as it is trained to a fast one.

Both networks take the steps that exist for them: "as trained" is PyTorch's own format
and batch norms, each line adds to the ones above it. All steps are timed in turns, for
one image on a CPU.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
from prettytable import PrettyTable
from torch import Tensor, nn

from mmseg_dynet import subjects
from mmseg_dynet.analysis.benchmark import forced, inference_call
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.cli import at_least, config_parser
from mmseg_dynet.deploy import fold_bn, optimize_for_inference
from mmseg_dynet.files import write_json
from mmseg_dynet.subjects import build_subject, subject_size

FEATURE_FUSION = "feature maps fused (eq. 2)"
COMPILED = "torch.compile"


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help=subjects.HELP)
    parser.add_argument("--vs", required=True, help="the static twin, given alike")
    parser.add_argument(
        "--shape",
        type=at_least(1),
        nargs=2,
        metavar=("H", "W"),
        help="input size in pixels (default: the one that the network is made for)",
    )
    parser.add_argument(
        "--threads", type=at_least(1), help="threads (default: PyTorch's)"
    )
    parser.add_argument(
        "--repeats", type=at_least(1), default=10, help="timed rounds (default: 10)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians")
    return parser.parse_args()


def common_steps(model: nn.Module, x: Tensor) -> dict[str, Callable]:
    last = x.to(memory_format=torch.channels_last)
    reordered = deepcopy(model).to(memory_format=torch.channels_last)
    folded = fold_bn(model).to(memory_format=torch.channels_last)
    return {
        "as trained": inference_call(model, x),
        "channels_last": inference_call(reordered, last),
        "norms folded": inference_call(folded, last),
    }


def static_steps(model: nn.Module, x: Tensor) -> dict[str, Callable]:
    fast = optimize_for_inference(model)
    last = x.to(memory_format=torch.channels_last)
    return common_steps(model, x) | {COMPILED: inference_call(fast, last, True)}


def dynamic_steps(model: nn.Module, x: Tensor) -> dict[str, Callable]:
    common = common_steps(model, x)
    last = x.to(memory_format=torch.channels_last)
    fast = optimize_for_inference(model)
    packed = optimize_for_inference(model, int8=True)
    return {
        FEATURE_FUSION: forced(common["as trained"], "feature_fusion"),
        **{name: forced(call, "grouped") for name, call in common.items()},
        "predictors by columns": forced(inference_call(fast, last), "grouped"),
        "small 1x1 layers as products": inference_call(fast, last),
        "int8 banks and predictors": inference_call(packed, last),
        COMPILED: inference_call(packed, last, True),
    }


def main():
    args = parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    size = args.shape or subject_size(args.config, args.cfg_options)
    x = torch.rand(1, 3, *size)
    static, _ = build_subject(args.vs, args.cfg_options)
    dynamic, _ = build_subject(args.config, args.cfg_options)
    steps = {"static": static_steps(static, x), "dynamic": dynamic_steps(dynamic, x)}
    calls = {(s, name): call for s in steps for name, call in steps[s].items()}
    medians = {
        key: 1e3 * median(seconds)
        for key, seconds in time_alternating(calls, args.repeats).items()
    }

    table = PrettyTable(["step", "static, ms", "dynamic, ms", "ratio"], align="r")
    table.align["step"] = "l"
    rows, static_ms = [], medians["static", "as trained"]
    for name in steps["dynamic"]:
        own = medians.get(("static", name))
        static_ms = own or static_ms  # a step that only the dynamic network has
        dynamic_ms = medians["dynamic", name]
        ratio = static_ms / dynamic_ms
        rows.append({"step": name, "static_ms": own, "dynamic_ms": dynamic_ms})
        rows[-1]["ratio"] = ratio
        cells = ["" if own is None else f"{own:.1f}", f"{dynamic_ms:.1f}"]
        table.add_row([name, *cells, f"{ratio:.2f}x"])
    print(table)
    record = {
        "static": args.vs,
        "dynamic": args.config,
        "shape": list(x.shape),
        "steps": rows,
    } | provenance()
    print(record["machine"])
    if args.json is not None:
        write_json(args.json, record)


if __name__ == "__main__":
    main()
