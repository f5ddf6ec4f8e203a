"""Time the implementations of dynamic convolution on the layers of a network, in turns.

The rules in mmseg_dynet/ops/per_image.py follow this table. A layer is timed from its
coefficients on, so that fusing kernels and fusing feature maps can be compared.
"static" is one kernel of the same size for all images; "unfold", which the package does
not use, fuses kernels and multiplies them by the unfolded windows of their image.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg_dynet.analysis.latency import synchronize, time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.cli import at_least
from mmseg_dynet.files import write_json
from mmseg_dynet.models.paper_networks import NETWORKS
from mmseg_dynet.ops import DyConv2d, force_implementation
from mmseg_dynet.ops.per_image import choose, fuses_feature_maps

SIDES = ("static", "grouped", "loop", "matmul", "unfold", "feature_fusion")
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def parse_args() -> Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "networks",
        nargs="*",
        default=["Dy-ResNet18", "Dy-ResNet50"],
        help="networks of the paper (default: Dy-ResNet18 Dy-ResNet50)",
    )
    parser.add_argument(
        "--shape",
        type=at_least(1),
        nargs=2,
        default=[224, 224],
        metavar=("H", "W"),
        help="input size (default: 224 224)",
    )
    parser.add_argument("--batch", type=at_least(1), nargs="+", default=[1, 8, 64])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument(
        "--format", choices=FORMATS, nargs="+", default=[*FORMATS], help="default: both"
    )
    parser.add_argument(
        "--threads", type=at_least(1), help="threads (default: PyTorch's)"
    )
    parser.add_argument("--repeats", type=at_least(1), default=10, help="default: 10")
    parser.add_argument(
        "--seconds", type=at_least(1), help="start no layer after this many seconds"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows, each as it is timed"
    )
    args = parser.parse_args()
    if unknown := {*args.networks} - {*NETWORKS}:
        parser.error(f"{', '.join(unknown)}: networks are {', '.join(NETWORKS)}")
    return args


def dynamic_layers(network: str, shape: list[int]) -> dict[str, tuple[DyConv2d, tuple]]:
    """The different dynamic layers of a network, and the size of their input."""
    found = {}

    def record(layer: DyConv2d, inputs: tuple[Tensor, ...]) -> None:
        height, width = inputs[0].shape[2:]
        name = (
            f"{layer.in_channels} to {layer.out_channels} channels, kernel "
            f"{layer.kernel_size[0]}, stride {layer.stride[0]}, dilation "
            f"{layer.dilation[0]}, groups {layer.groups}, {height} x {width}"
        )
        found.setdefault(name, (layer, (height, width)))

    with torch.device("meta"):
        model = NETWORKS[network](6).eval()
        for module in model.modules():
            if isinstance(module, DyConv2d):
                module.register_forward_pre_hook(record)
        model(torch.empty(1, 3, *shape))
    return found


def make_calls(layer: DyConv2d, x: Tensor, coeff: Tensor) -> dict[str, Callable]:
    """Calls that convolve x (B, C, H, W) with coefficients (B, O, K), by name.

    They compute gradients, too, if x requires its own.
    """
    *sizes, groups = layer.stride, layer.padding, layer.dilation, layer.groups
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    kernels = layer.weight.detach()[:, 0].contiguous(memory_format=memory_format)
    kernels.requires_grad_(x.requires_grad)

    def static() -> Tensor:
        return F.conv2d(x, kernels, None, *sizes, groups)

    def unfold() -> Tensor:
        stride, padding, dilation = sizes
        windows = F.unfold(x, layer.kernel_size, dilation, padding, stride)
        return layer.fuse(coeff).flatten(2) @ windows  # (B, O, N) @ (B, N, H'W')

    def dynamic(name: str) -> Tensor:
        with force_implementation(name):
            return layer(x, coeff)

    def timed(convolve: Callable[[], Tensor]) -> None:
        out = convolve()
        if x.requires_grad:
            leaves = (x, kernels, layer.weight, coeff)  # some in no graph
            torch.autograd.grad(out, leaves, out.detach(), allow_unused=True)

    functions = {name: partial(dynamic, name) for name in SIDES}
    functions |= dict(static=static, unfold=unfold)
    if groups > 1 or layer.kernel_size != (1, 1):
        del functions["matmul"]
    if groups > 1:
        del functions["unfold"]
    return {name: partial(timed, function) for name, function in functions.items()}


def rule(layer: DyConv2d, x: Tensor, coeff: Tensor) -> str:
    """The implementation that the package chooses."""
    if fuses_feature_maps(x, coeff, layer.bank_shape, layer.stride):
        return "feature_fusion"
    out_channels, _, *kernel = layer.bank_shape
    kernels = torch.empty(len(x), out_channels, *kernel, device="meta")
    return choose(x, kernels, layer.groups)


def measure(calls: dict[str, Callable], repeats: int, on_gpu: bool) -> dict[str, float]:
    """Median milliseconds of each call, and on a GPU the peak megabytes."""
    figures: dict[str, float] = {}
    looped = {}
    for name, call in calls.items():
        try:
            call()
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            synchronize()
            start = perf_counter()
            call()
            synchronize()
        except torch.cuda.OutOfMemoryError:
            continue  # the row has no such figure
        if on_gpu:
            figures[f"{name}_peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
        # Short calls follow each other, as in a network: launching is not waited for.
        number = 20 if perf_counter() - start < 2e-3 else 1
        looped[name] = lambda call=call, n=number: [call() for _ in range(n)]
        figures[f"{name}_ms"] = 1 / number
    for name, latency in time_alternating(looped, repeats, warmup=1).items():
        figures[f"{name}_ms"] *= latency.median
    return figures


def rows(args: Namespace) -> Iterator[dict]:
    """Time every layer under every option."""
    start = perf_counter()
    for network, batch in product(args.networks, args.batch):
        for name, (template, size) in dynamic_layers(network, args.shape).items():
            for memory_format, train in product(args.format, (False, True)):
                if args.seconds and perf_counter() - start > args.seconds:
                    return
                options = dict(device=args.device, dtype=DTYPES[args.dtype])
                layer = DyConv2d(
                    template.in_channels,
                    template.out_channels,
                    template.kernel_size,
                    template.stride,
                    template.padding,
                    template.dilation,
                    template.groups,
                    bias=False,
                    own_predictor=False,
                ).to(**options, memory_format=FORMATS[memory_format])
                layer.requires_grad_(train)
                x = torch.rand(batch, layer.in_channels, *size, **options)
                x = x.to(memory_format=FORMATS[memory_format]).requires_grad_(train)
                coeff = torch.rand(batch, *layer.bank_shape[:2], **options)
                coeff.requires_grad_(train)
                calls = make_calls(layer, x, coeff)
                yield dict(
                    network=network, layer=name, batch=batch, format=memory_format,
                    train=train, dtype=args.dtype, chosen=rule(layer, x, coeff),
                ) | measure(calls, args.repeats, x.is_cuda)  # fmt: skip


def main() -> None:
    """Print a table of times, and write it if asked to."""
    args = parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # as the configs train
    if args.device == "cuda" and args.dtype == "float32":
        # TF32, as in convolutions by default: fusing kernels is a matrix product.
        torch.set_float32_matmul_precision("high")
    origin = provenance(args.device)
    print(origin["machine"])
    record = origin | {"rows": []}
    for row in rows(args):
        record["rows"].append(row)
        times = [f"{n} {row[f'{n}_ms']:.3f}" for n in SIDES if f"{n}_ms" in row]
        task = "training" if row["train"] else "inference"
        print(f"{row['batch']} images, {row['layer']}, {row['format']}, {task}, ms:")
        print(f"    {', '.join(times)}; chosen: {row['chosen']}", flush=True)
        if args.json is not None:
            write_json(args.json, record)


if __name__ == "__main__":
    main()
