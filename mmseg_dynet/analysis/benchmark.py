"""Measure a dynamic network beside its static twin: in use, and in training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d, force_implementation

from .latency import synchronize


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements, in milliseconds."""

    median: float
    first: float
    third: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Summarise at least two measurements."""
        first, _, third = quantiles(seconds, method="inclusive")
        return cls(1e3 * median(seconds), 1e3 * first, 1e3 * third)

    def __str__(self) -> str:
        return f"{self.median:.1f} ± {(self.third - self.first) / 2:.1f}"


def inference_call(
    model: nn.Module, x: Tensor, compiled: bool = False
) -> Callable[[], object]:
    """Make a call without arguments that runs the network once on ``x``.

    Args:
        model: A network in eval mode, called with one tensor.
        x: Its input.
        compiled: Whether to compile the network; the first call does.
    """
    if compiled:
        model = torch.compile(model)

    @torch.inference_mode()
    def call() -> object:
        return model(x)

    return call


def forced(
    call: Callable[[], object], implementation: str | None
) -> Callable[[], object]:
    """Make a call whose dynamic convolutions all use one implementation.

    Args:
        call: Without arguments.
        implementation: As in :func:`mmseg_dynet.ops.force_implementation`, or None for
            those that the library chooses.
    """
    if implementation is None:
        return call

    def forced_call() -> object:
        with force_implementation(implementation):
            return call()

    return forced_call


def onnxruntime_call(
    segmentor: nn.Module, shape: tuple[int, int], num_threads: int
) -> Callable[[], object]:
    """Make a call without arguments that runs the exported segmentor on one picture.

    Args:
        segmentor: A segmentor of MMSegmentation.
        shape: (H, W) of the picture, in pixels.
        num_threads: Threads of onnxruntime.
    """
    # Of the "deploy" extra, which the other backends do without.
    from onnxruntime import InferenceSession, SessionOptions

    from mmseg_dynet.deploy.export import export_onnx

    options = SessionOptions()
    options.intra_op_num_threads = num_threads
    # The sessions take turns: threads of one that spin would take cores of the other.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        export_onnx(segmentor, shape, path)
        session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    picture = torch.randint(256, (1, 3, *shape), dtype=torch.uint8).numpy()
    feed = {session.get_inputs()[0].name: picture}
    return lambda: session.run(None, feed)


def training_call(
    model: nn.Module, x: Tensor, num_classes: int, autocast: torch.dtype | None = None
) -> Callable[[], object]:
    """Make a call without arguments that runs one training step.

    Forward, loss, backward, and a step of SGD with momentum, on random labels. A
    segmentor has the losses of its heads, another network cross-entropy.

    Args:
        model: A network, which is set to train mode.
        x: Images, (B, 3, H, W).
        num_classes: Labels are 0 .. num_classes - 1.
        autocast: The low-precision type of mixed-precision training.
    """
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    labels = torch.randint(num_classes, (len(x), 1, *x.shape[2:]), device=x.device)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]

    def loss() -> Tensor:
        if hasattr(model, "parse_losses"):
            return model.parse_losses(model(x, samples, mode="loss"))[0]
        return F.cross_entropy(model(x), labels[:, 0, 0, 0])

    def call() -> None:
        enabled = autocast is not None
        with torch.autocast(x.device.type, autocast, enabled=enabled):
            total = loss()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return call


@contextmanager
def stopwatch(model: nn.Module) -> Iterator[dict[str, float]]:
    """Time prediction and fusion inside a network that runs eagerly.

    Yields:
        Seconds under "prediction" and "fusion", zero at first; they grow as the network
        runs inside the block.
    """
    seconds = {"prediction": 0.0, "fusion": 0.0}

    def timed(name: str, function: Callable) -> Callable:
        def call(*args: Tensor) -> object:
            synchronize()
            start = perf_counter()
            result = function(*args)
            synchronize()
            seconds[name] += perf_counter() - start
            return result

        return call

    predictors = [m for m in model.modules() if isinstance(m, CoefficientPredictor)]
    convs = [m for m in model.modules() if isinstance(m, DyConv2d)]
    for module in predictors:
        module.forward = timed("prediction", module.forward)
    for module in convs:
        module.fuse = timed("fusion", module.fuse)
    try:
        yield seconds
    finally:
        for module in predictors:
            del module.forward
        for module in convs:
            del module.fuse


def dynamic_shares(model: nn.Module, x: Tensor, repeats: int) -> dict[str, float]:
    """Shares of a network's eager inference spent in prediction and in fusion, 0 .. 1.

    Args:
        model: A network in eval mode.
        x: Its input.
        repeats: Runs to sum over, after one that is not counted.
    """
    with torch.inference_mode():
        model(x)
        with stopwatch(model) as seconds:
            synchronize()
            start = perf_counter()
            for _ in range(repeats):
                model(x)
            synchronize()
            total = perf_counter() - start
    return {name: value / total for name, value in seconds.items()}


def draw_sweep(records: Sequence[Mapping]) -> Figure:
    """Plot latency against input size, and how much of the MAC ratio is reached.

    Args:
        records: A record of tools/analysis_tools/benchmark.py for each input size.
    """
    labels = [f"{r['shape'][2]} x {r['shape'][3]}" for r in records]
    figure = Figure(figsize=(9, 4), layout="constrained")
    latency, ratio = figure.subplots(1, 2)
    for side in ("static", "dynamic"):
        medians = [r[f"{side}_ms"] for r in records]
        quartiles = zip(*(r[f"{side}_quartiles_ms"] for r in records), strict=True)
        first, third = quartiles
        name = Path(records[0][side]).stem
        latency.plot(labels, medians, marker="o", label=f"{side}: {name}")
        latency.fill_between(labels, first, third, alpha=0.2)
    latency.set(ylabel="ms", yscale="log", title="latency")
    latency.legend(fontsize=6, loc="lower right")
    ratio.plot(labels, [r["ratio"] for r in records], marker="o", label="measured")
    ratio.plot(labels, [r["mac_ratio"] for r in records], "--", label="MACs")
    ratio.set(ylabel="static / dynamic", ylim=(0, None), title="speed-up")
    ratio.legend()
    for axes in (latency, ratio):
        axes.tick_params(axis="x", rotation=45)
        axes.grid(alpha=0.3)
    return figure
