"""Time a network beside its static twin, in turns: do fewer MACs take less time?

A network is a segmentor's config, or the name of one of the paper's networks, such as
"Dy-ResNet50". Weights and images are random: no checkpoint or data set is needed. Both
sides are treated alike: in inference batch norms are folded and the memory format is
channels_last.
"""

from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.registry import init_default_scope
from prettytable import PrettyTable
from torch import nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import (
    Latency,
    inference_call,
    time_alternating,
    training_call,
)
from mmseg_dynet.analysis.machine import peak_resident_memory, provenance
from mmseg_dynet.apis import build_model, input_channels, input_size, load_config
from mmseg_dynet.cli import at_least, config_parser
from mmseg_dynet.deploy import fold_bn, optimize_for_inference
from mmseg_dynet.deploy.runtimes import onnxruntime_call, openvino_call
from mmseg_dynet.files import write_json
from mmseg_dynet.models.paper_networks import IMAGE_SIDES, NETWORKS
from mmseg_dynet.ops import IMPLEMENTATIONS, force_implementation

EXPORTED = ("onnxruntime", "openvino")
BACKENDS = ("eager", "compile", *EXPORTED)
FEATURE_FUSION = "feature_fusion"
MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument(
        "config",
        help="path of a config (Python: it is executed), or one of: "
        + ", ".join(f'"{name}"' for name in NETWORKS),
    )
    parser.add_argument("--vs", metavar="CONFIG", help="the static twin, likewise")
    parser.add_argument(
        "--shape",
        type=at_least(1),
        nargs="+",
        metavar="H W",
        help="input size in pixels, or several for a sweep: 224 224 512 1024 (default: "
        "the size that the config trains on; the paper's for one of its networks)",
    )
    parser.add_argument(
        "--batch",
        type=at_least(1),
        help="images per batch (default: 1; with --train 2, since batch norms of "
        "globally pooled maps cannot train on 1)",
    )
    parser.add_argument(
        "--threads", type=at_least(1), help="threads on the CPU (default: PyTorch's)"
    )
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="default: cpu, which alone runs exported files",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="eager")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="banks and predictors with 8 bits per weight",
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
    args = parser.parse_args()
    args.batch = args.batch or 1 + args.train
    for name in filter(None, (args.config, args.vs)):
        if name not in NETWORKS and not Path(name).expanduser().is_file():
            parser.error(f"{name} is neither a file nor one of {', '.join(NETWORKS)}")
    if args.shape is not None and len(args.shape) % 2:
        parser.error(f"--shape takes pairs H W, got {len(args.shape)} numbers")
    if args.backend in EXPORTED and (
        args.train
        or args.batch != 1
        or args.int8
        or args.implementation is not None
        or args.device != "cpu"
    ):
        parser.error(
            f"--backend {args.backend} runs one image on the CPU: leave out --train, "
            "--batch, --int8, --implementation and --device"
        )
    if args.int8 and (args.train or args.device != "cpu"):
        parser.error("--int8 is for inference on a CPU")
    if not args.train and (args.feature_fusion or args.amp or args.memory_format):
        parser.error("--feature-fusion, --amp and --memory-format belong to --train")
    return args


def build(name: str, args: Namespace) -> tuple[nn.Module, int]:
    """A network in eval mode with random weights, and its number of classes."""
    if name in NETWORKS:
        init_default_scope("mmseg")
        return NETWORKS[name](6).eval(), 1000
    model = build_model(load_config(name, args.cfg_options))
    return model, model.num_classes


def input_shapes(args: Namespace) -> list[tuple[int, int, int, int]]:
    if args.config in NETWORKS:
        channels, sizes = 3, args.shape or [IMAGE_SIDES[args.config]] * 2
    else:
        cfg = load_config(args.config, args.cfg_options)
        channels, sizes = input_channels(cfg), args.shape or input_size(cfg)
    pairs = zip(sizes[::2], sizes[1::2], strict=True)
    return [(args.batch, channels, *pair) for pair in pairs]


def forced(call: Callable, args: Namespace, side: str) -> Callable:
    """Make a call whose dynamic convolutions all use one implementation, if any."""
    name = FEATURE_FUSION if side == FEATURE_FUSION else args.implementation
    return force_implementation(name)(call) if name else call


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


def prepare_exported(model: nn.Module, shape: tuple, backend: str) -> Callable:
    from mmseg_dynet.deploy import export  # needs a recent torch

    is_segmentor = hasattr(model, "decode_head")
    images = torch.randint(256, shape, dtype=torch.uint8)
    images = images if is_segmentor else images / 255
    make_call = openvino_call if backend == "openvino" else onnxruntime_call
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.xml" if backend == "openvino" else "model.onnx")
        export.export(model, shape[1:], path)
        return make_call(path, images, torch.get_num_threads())


def peak_memory(name: str, shape: tuple, args: Namespace, side: str) -> int | None:
    """Peak memory, in bytes, of a process that only runs two training steps."""
    set_up(args)
    call = forced(prepare_training(*build(name, args), shape, args), args, side)
    for _ in range(2):
        call()
    if args.device != "cpu":
        return torch.cuda.max_memory_allocated()
    return peak_resident_memory()


def set_up(args: Namespace) -> None:
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.device == "cuda":
        torch.backends.cudnn.benchmark = True  # as the configs train
        # TF32, as in convolutions by default: fusing kernels is a matrix product.
        torch.set_float32_matmul_precision("high")


def measure(names: dict[str, str], shape: tuple, args: Namespace) -> dict:
    """Time all sides at one input size; milliseconds, megabytes and ratios by name."""
    calls, macs, record = {}, {}, {**names, "shape": list(shape)}
    record["backend"] = args.backend
    for side, name in names.items():
        model, num_classes = build(name, args)
        macs[side] = count_complexity(model, shape).macs
        if args.train:
            call = prepare_training(model, num_classes, shape, args)
        elif args.backend in EXPORTED:
            call = prepare_exported(model, shape, args.backend)
        else:
            if args.device == "cpu":
                model = optimize_for_inference(model, args.int8)
            else:
                model = fold_bn(model).to("cuda", memory_format=torch.channels_last)
            x = torch.rand(shape, device=args.device)
            x = x.to(memory_format=torch.channels_last)
            call = inference_call(model, x, args.backend == "compile")
        calls[side] = forced(call, args, side)
    for side, latency in time_alternating(calls, args.repeats, args.warmup).items():
        record |= latency.as_dict(side)
    if args.train:
        for side, name in names.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
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
        "speed-up": ("ratio", "{:.2f}x"),
        "MAC ratio": ("mac_ratio", "{:.2f}x"),
        "reached": ("mac_ratio_reached", "{:.0%}"),
        **{f"{side}, peak MB": (f"{side}_peak_mb", "{:.0f}") for side in sides},
    }
    for record in records:
        row = [" x ".join(map(str, record["shape"]))]
        for side in sides:
            first, third = record[f"{side}_quartiles_ms"]
            row.append(str(Latency(record[f"{side}_ms"], first, third)))
        rows.add_row(row)
    for title, (key, form) in columns.items():
        if key in records[0]:
            rows.add_column(title, [form.format(r[key]) for r in records], align="r")
    what = f"{'training step' if args.train else 'inference'}, {args.backend}"
    rows.title = f"{what}: median of {args.repeats} ± half the interquartile range"
    return rows


def main():
    args = parse_args()
    set_up(args)
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


if __name__ == "__main__":
    main()
