"""Time a network beside its static twin, in turns: how much of the saved MACs is time?

A network is a segmentor's config, or the name of one of the paper's networks, such as
"Dy-ResNet50". Weights are drawn, images are random: no checkpoint or data set is
needed. Both sides are treated alike: in inference batch norms are folded and the memory
format is channels_last.
"""

from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from prettytable import PrettyTable
from torch import nn

from mmseg_dynet import subjects
from mmseg_dynet.analysis.benchmark import (
    Spread,
    draw_sweep,
    dynamic_shares,
    forced,
    inference_call,
    onnxruntime_call,
    training_call,
)
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.analysis.machine import peak_resident_memory, provenance
from mmseg_dynet.cli import at_least, config_parser
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.files import write_figure, write_json
from mmseg_dynet.ops import IMPLEMENTATIONS
from mmseg_dynet.subjects import (
    build_subject,
    is_paper_network,
    subject_size,
)

BACKENDS = ("eager", "compile", "onnxruntime")
FEATURE_FUSION = "feature_fusion"
MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help=subjects.HELP)
    parser.add_argument("--vs", metavar="CONFIG", help="the static twin, given alike")
    parser.add_argument(
        "--shape",
        type=at_least(1),
        nargs="+",
        metavar="H W",
        help="input size in pixels, or several for a sweep: 224 224 512 1024 (default: "
        "the size that the config trains on; 224 224 for a network of the paper)",
    )
    parser.add_argument(
        "--batch", type=at_least(1), default=1, help="images (default: 1)"
    )
    parser.add_argument(
        "--threads", type=at_least(1), help="threads of a CPU (default: PyTorch's)"
    )
    parser.add_argument(
        "--device", default="cpu", help="cpu or cuda (default: cpu); not for ONNX"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="eager")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="banks and predictors with 8 bits a weight",
    )
    parser.add_argument(
        "--implementation",
        choices=IMPLEMENTATIONS,
        help="force an implementation of dynamic convolution (default: chosen by rule)",
    )
    parser.add_argument(
        "--train",
        action="store_true",
        help="time a training step (forward, backward, SGD) and its peak memory",
    )
    parser.add_argument(
        "--feature-fusion",
        action="store_true",
        help="with --train, also fuse feature maps, as the paper trains",
    )
    parser.add_argument(
        "--amp", action="store_true", help="with --train, autocast to bfloat16"
    )
    parser.add_argument(
        "--memory-format",
        choices=MEMORY_FORMATS,
        help="with --train (default: channels_last)",
    )
    parser.add_argument(
        "--repeats", type=at_least(2), default=10, help="timed rounds (default: 10)"
    )
    parser.add_argument(
        "--warmup", type=at_least(0), default=2, help="rounds before (default: 2)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the sweep (PNG, SVG, PDF)"
    )
    args = parser.parse_args()
    if args.shape is not None and len(args.shape) % 2:
        parser.error(f"--shape takes pairs H W, got {len(args.shape)} numbers")
    if args.train and args.backend == "onnxruntime":
        parser.error("--train runs in PyTorch: use --backend eager or compile")
    if args.backend == "onnxruntime" and (
        args.batch != 1
        or args.int8
        or args.implementation is not None
        or args.device != "cpu"
        or any(map(is_paper_network, (args.config, args.vs)))
    ):
        parser.error(
            "--backend onnxruntime runs configs of segmentors on one picture and on "
            "the CPU, and has no int8 weights or other implementations"
        )
    if args.int8 and (args.train or args.device != "cpu"):
        parser.error("--int8 is for inference on a CPU")
    of_training = {
        "--feature-fusion": args.feature_fusion,
        "--amp": args.amp,
        "--memory-format": args.memory_format is not None,
    }
    for option, is_given in of_training.items():
        if is_given and not args.train:
            parser.error(f"{option} belongs to --train")
    if args.plot is not None and args.vs is None:
        parser.error("--plot draws both sides: name the static twin with --vs")
    return args


def input_shapes(args: Namespace) -> list[tuple[int, int, int, int]]:
    if args.shape is not None:
        sizes = list(zip(args.shape[::2], args.shape[1::2], strict=True))
    else:
        sizes = [subject_size(args.config, args.cfg_options)]
    return [(args.batch, 3, *size) for size in sizes]


def prepare_training(
    model: nn.Module, num_classes: int, shape: tuple, args: Namespace
) -> Callable:
    memory_format = MEMORY_FORMATS[args.memory_format or "channels_last"]
    model = model.to(args.device, memory_format=memory_format)
    x = torch.rand(shape, device=args.device).to(memory_format=memory_format)
    if args.backend == "compile":
        model = torch.compile(model)
    autocast = torch.bfloat16 if args.amp else None
    return training_call(model, x, num_classes, autocast)


def peak_memory(name: str, shape: tuple, args: Namespace, side: str) -> int | None:
    """Bytes that a process needs which does nothing but two training steps."""
    set_threads(args)
    subject = build_subject(name, args.cfg_options)
    call = prepare_training(*subject, shape, args)
    for _ in range(2):
        forced(call, implementation(args, side))()
    if args.device != "cpu":
        return torch.cuda.max_memory_allocated()
    return peak_resident_memory()


def implementation(args: Namespace, side: str) -> str | None:
    return FEATURE_FUSION if side == FEATURE_FUSION else args.implementation


def set_threads(args: Namespace) -> None:
    if args.threads is not None:
        torch.set_num_threads(args.threads)


def measure(names: dict[str, str], shape: tuple, args: Namespace) -> dict:
    """Time all sides at one input size; milliseconds, megabytes and ratios by name."""
    calls, macs, record = {}, {}, {**names, "shape": list(shape)}
    record["backend"] = args.backend
    for side, name in names.items():
        model, num_classes = build_subject(name, args.cfg_options)
        macs[side] = count_complexity(model, shape).macs
        if args.train:
            call = prepare_training(model, num_classes, shape, args)
        elif args.backend == "onnxruntime":
            call = onnxruntime_call(model, shape[2:], torch.get_num_threads())
        else:
            model = optimize_for_inference(model, args.int8).to(args.device)
            x = torch.rand(shape, device=args.device)
            x = x.to(memory_format=torch.channels_last)
            call = inference_call(model, x, args.backend == "compile")
            if side == "dynamic":
                look = partial(dynamic_shares, model, x, args.repeats)
                shares = forced(look, args.implementation)()  # in eager mode only
                record |= {f"{part}_share": share for part, share in shares.items()}
        calls[side] = forced(call, implementation(args, side))
    for side, seconds in time_alternating(calls, args.repeats, args.warmup).items():
        spread = Spread.of(seconds)
        record[f"{side}_ms"] = spread.median
        record[f"{side}_quartiles_ms"] = [spread.first, spread.third]
    if args.train:
        with ProcessPoolExecutor(
            1, get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            for side, name in names.items():
                peak = pool.submit(peak_memory, name, shape, args, side).result()
                if peak is not None:
                    record[f"{side}_peak_mb"] = peak / 1e6
    if "static" in names:
        record["ratio"] = record["static_ms"] / record["dynamic_ms"]
        record["mac_ratio"] = macs["static"] / macs["dynamic"]
        record["mac_ratio_reached"] = record["ratio"] / record["mac_ratio"]
    return record


def table(records: list[dict], sides: list[str], args: Namespace) -> PrettyTable:
    rows = PrettyTable(["input", *(f"{side}, ms" for side in sides)], align="r")
    columns = {
        "ratio": ("ratio", "{:.2f}x"),
        "MAC ratio": ("mac_ratio", "{:.2f}x"),
        "reached": ("mac_ratio_reached", "{:.0%}"),
        "prediction (eager)": ("prediction_share", "{:.1%}"),
        "fusion (eager)": ("fusion_share", "{:.1%}"),
        **{f"{side}, peak MB": (f"{side}_peak_mb", "{:.0f}") for side in sides},
    }
    for record in records:
        row = [" x ".join(map(str, record["shape"]))]
        for side in sides:
            first, third = record[f"{side}_quartiles_ms"]
            row.append(str(Spread(record[f"{side}_ms"], first, third)))
        rows.add_row(row)
    for title, (key, form) in columns.items():
        if key in records[0]:
            rows.add_column(title, [form.format(r[key]) for r in records], align="r")
    what = "training step" if args.train else "inference"
    rows.title = (
        f"{what}, {args.backend}: median of {args.repeats} ± half the quartiles' range"
    )
    return rows


def main():
    args = parse_args()
    set_threads(args)
    names = {} if args.vs is None else {"static": args.vs}
    names["dynamic"] = args.config
    if args.train and args.feature_fusion:
        names[FEATURE_FUSION] = args.config
    origin = provenance(args.device)
    records = [measure(names, shape, args) | origin for shape in input_shapes(args)]
    print(table(records, list(names), args))
    print(origin["machine"])
    if args.json is not None:
        write_json(args.json, records[0] if len(records) == 1 else records)
    if args.plot is not None:
        write_figure(args.plot, draw_sweep(records))


if __name__ == "__main__":
    main()
