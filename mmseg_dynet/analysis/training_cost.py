"""What training a segmentor costs a GPU, as far as a CPU can count it.

Memory is that of weights, gradients and optimizer, which are counted, and of what
autograd keeps for the backward pass, the activations, which is weighed at small sizes:
it has a part that each step has, a part that each image has (dynamic kernels), and a
part that each pixel has. Arithmetic is counted. Time is measured by
tools/analysis_tools/training_cost.py, on a CPU; for a GPU it takes the reader's figure.

Units: bytes, seconds, multiply-accumulates (MACs); one MAC is two FLOPs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import ceil
from weakref import WeakSet

import numpy as np
import torch
from prettytable import PrettyTable, TableStyle
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mmseg_dynet.markdown import markdown_table

from .benchmark import training_call
from .complexity import FLOPS_PER_MAC, count_complexity

FLOAT32_BYTES = 4
# Forward; and backward, once for the gradient of the input and once for the weight's.
PASSES = 3
STRIDE = 8  # of the feature maps, whose sides are rounded up


def optimizer_state_tensors(optimizer: Mapping) -> int:
    """How many tensors of a parameter's size an optimizer keeps for each parameter.

    Args:
        optimizer: Its config, such as ``dict(type="SGD", lr=0.01, momentum=0.9)``.

    Raises:
        ValueError: The type is not known here.
    """
    match optimizer["type"]:
        case "SGD":
            return int(optimizer.get("momentum", 0) != 0)
        case "Adam" | "AdamW":
            return 3 if optimizer.get("amsgrad", False) else 2
        case other:
            raise ValueError(
                f"the state of optimizer {other!r} is not known: it must be SGD, Adam "
                "or AdamW, or be added to mmseg_dynet/analysis/training_cost.py"
            )


class _Saved:
    """A tensor that autograd keeps; gone when autograd lets it go."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept_for_backward(step: Callable[[], object], owned: Iterable[Tensor]) -> int:
    """Weigh what autograd keeps at the moment when a step begins its backward pass.

    Tensors that share memory are weighed once.

    Args:
        step: Runs forward and backward once.
        owned: Tensors that are there anyway, the model's, which are not weighed.

    Returns:
        Bytes.
    """
    ignored = {tensor.untyped_storage().data_ptr() for tensor in owned}
    kept, weights = WeakSet(), []

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        kept.add(saved)
        return saved

    def unpack(saved: _Saved) -> Tensor:
        if not weights:
            storages = (s.tensor.untyped_storage() for s in kept)
            weights.append({s.data_ptr(): s.nbytes() for s in storages})
        return saved.tensor

    with saved_tensors_hooks(pack, unpack):
        step()
    (weight,) = weights
    return sum(size for place, size in weight.items() if place not in ignored)


@dataclass(frozen=True)
class Activations:
    """What autograd keeps for the backward pass, in bytes.

    Attributes:
        step: Of a step: the statistics of norms; under autocast, the weights in low
            precision.
        image: Of an image, whatever its size: what pooling leaves, dynamic kernels.
        pixel: Of a pixel of an image.
    """

    step: float
    image: float
    pixel: float

    @classmethod
    def fit(cls, kept: Mapping[tuple[int, int, int], int]) -> "Activations":
        """Find the three parts from what was weighed.

        Args:
            kept: Bytes by (B, H, W), of two batch sizes B and two sizes at least.

        Raises:
            ValueError: The shapes do not tell the parts apart.
        """
        rows = [[1, batch, batch * _pixels(size)] for batch, *size in kept]
        parts, _, rank, _ = np.linalg.lstsq(rows, [*kept.values()], rcond=None)
        if rank < len(parts):
            raise ValueError(
                f"{', '.join(map(str, kept))} do not tell the parts of step, image and "
                "pixel apart: vary the batch at one size, and the size"
            )
        return cls(*parts.tolist())

    def of_image(self, size: tuple[int, int]) -> float:
        """Bytes of one image of (H, W) pixels."""
        return self.image + self.pixel * _pixels(size)

    def of_step(self, batch: int, size: tuple[int, int]) -> float:
        """Bytes of a step with ``batch`` images of (H, W) pixels."""
        return self.step + batch * self.of_image(size)


def weigh_activations(
    segmentor: nn.Module,
    num_classes: int,
    shapes: Iterable[tuple[int, int, int]],
    autocast: torch.dtype | None = None,
) -> dict[tuple[int, int, int], int]:
    """Run training steps of a segmentor on random images and weigh what autograd keeps.

    Args:
        segmentor: On the CPU; its weights and statistics change a little.
        num_classes: Labels are 0 .. num_classes - 1.
        shapes: (B, H, W) of each step.
        autocast: The low-precision type of mixed-precision training.

    Returns:
        Bytes by shape, images and labels included.
    """
    kept = {}
    for batch, height, width in shapes:
        x = torch.rand(batch, 3, height, width)
        step = training_call(segmentor, x, num_classes, autocast)
        owned = chain(segmentor.parameters(), segmentor.buffers())
        kept[batch, height, width] = kept_for_backward(step, owned)
    return kept


def small_shapes(segmentor: nn.Module) -> list[tuple[int, int, int]]:
    """The fewest (B, H, W) that :meth:`Activations.fit` needs, and a segmentor takes.

    Sides are multiples of all strides, and hold the largest window that it pools.
    """
    windows = [
        np.max(module.kernel_size)
        for module in segmentor.modules()
        if isinstance(module, nn.AvgPool2d)
    ]
    small = 64 * ceil(STRIDE * max(windows, default=1) / 64)
    large = small + 64
    return [(2, small, 2 * small), (3, small, 2 * small), (2, large, 2 * large)]


def training_macs(segmentor: nn.Module, size: tuple[int, int]) -> int:
    """Count the MACs of the forward pass of one image in training.

    Unlike at inference, auxiliary heads run.

    Args:
        segmentor: Is left as it is.
        size: (H, W) in pixels.
    """
    return count_complexity(_AllHeads(segmentor), (1, 3, *size)).macs


class _AllHeads(nn.Module):
    """A segmentor that also runs its auxiliary heads, as in training."""

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.segmentor.extract_feat(x)
        heads = [self.segmentor.decode_head]
        if self.segmentor.with_auxiliary_head:
            auxiliary = self.segmentor.auxiliary_head
            heads += auxiliary if isinstance(auxiliary, nn.ModuleList) else [auxiliary]
        return [head(features) for head in heads]


@dataclass(frozen=True)
class TrainingCost:
    """What training a segmentor costs, in float32 and in bfloat16.

    Attributes:
        parameters: Of the whole network, all trained, in float32 in either case.
        macs: Of the forward pass of one image, auxiliary heads included.
        float32: What autograd keeps.
        bfloat16: The same under autocast.
        size: (H, W) of an image in pixels.
        batch: Images a GPU.
        gpus: How many.
        images: How many the whole training sees.
        state_tensors: Of the optimizer, for each parameter.
    """

    parameters: int
    macs: int
    float32: Activations
    bfloat16: Activations
    size: tuple[int, int]
    batch: int
    gpus: int
    images: int
    state_tensors: int

    @property
    def all_reduce_bytes(self) -> int:
        """Gradients that DDP sums over the GPUs in a step."""
        return FLOAT32_BYTES * self.parameters

    @property
    def parameter_bytes(self) -> int:
        """Weights, gradients, optimizer, and with several GPUs DDP's buckets."""
        buckets = 1 if self.gpus > 1 else 0
        tensors = 1 + 1 + self.state_tensors + buckets
        return tensors * FLOAT32_BYTES * self.parameters

    def memory_bytes(self, activations: Activations) -> float:
        """What a GPU holds as the backward pass begins, gradients included.

        Args:
            activations: :attr:`float32` or :attr:`bfloat16`.
        """
        return self.parameter_bytes + activations.of_step(self.batch, self.size)

    @property
    def checkpoint_bytes(self) -> int:
        """Weights and optimizer state."""
        return (1 + self.state_tensors) * FLOAT32_BYTES * self.parameters

    @property
    def image_flops(self) -> int:
        """Arithmetic of one image, forward and backward."""
        return PASSES * FLOPS_PER_MAC * self.macs

    @property
    def step_flops(self) -> int:
        """Arithmetic of a step on all GPUs."""
        return self.gpus * self.batch * self.image_flops

    @property
    def iterations(self) -> int:
        """Steps until the images are seen."""
        return ceil(self.images / (self.gpus * self.batch))

    @property
    def total_flops(self) -> int:
        """Arithmetic of the whole training."""
        return self.iterations * self.step_flops

    def as_dict(self) -> dict:
        """All of it, for a JSON file."""
        return asdict(self) | {
            "float32_memory_bytes": self.memory_bytes(self.float32),
            "bfloat16_memory_bytes": self.memory_bytes(self.bfloat16),
            "checkpoint_bytes": self.checkpoint_bytes,
            "all_reduce_bytes": self.all_reduce_bytes,
            "step_flops": self.step_flops,
            "iterations": self.iterations,
            "total_flops": self.total_flops,
        }


def render_costs(costs: Mapping[str, TrainingCost], markdown: bool = False) -> str:
    """Lay out costs as a table, a row a config.

    Args:
        costs: By the name of the config.
        markdown: Whether the table is Markdown's.
    """
    table = _table(
        "config", "parameters, 10^6", "GMACs an image", "activations fp32, MB an image",
        "activations bf16, MB an image", "GPU fp32, GB", "GPU bf16, GB",
        "all-reduce, MB", "checkpoint, MB", "TFLOPs a step", "iterations", "PFLOPs",
        markdown=markdown,
    )  # fmt: skip
    for name, cost in costs.items():
        both = (cost.float32, cost.bfloat16)
        table.add_row([
            name, f"{cost.parameters / 1e6:.2f}", f"{cost.macs / 1e9:.2f}",
            *(f"{part.of_image(cost.size) / 1e6:.0f}" for part in both),
            *(f"{cost.memory_bytes(part) / 1e9:.2f}" for part in both),
            f"{cost.all_reduce_bytes / 1e6:.1f}", f"{cost.checkpoint_bytes / 1e6:.0f}",
            f"{cost.step_flops / 1e12:.2f}", cost.iterations,
            f"{cost.total_flops / 1e15:.0f}",
        ])  # fmt: skip
    return str(table)


@dataclass(frozen=True)
class StepTime:
    """Seconds of a training step, by the images' pixels.

    Attributes:
        fixed: Seconds of any step: the optimizer's, and overhead.
        pixel: Seconds of a pixel.
        deviation: How far the farthest measurement lies from the line, relative to it.
    """

    fixed: float
    pixel: float
    deviation: float

    @classmethod
    def fit(cls, records: Sequence[Mapping], side: str) -> "StepTime":
        """Draw the line through measured steps, each weighed by its own time.

        Args:
            records: Of ``tools/analysis_tools/training_cost.py --measure``.
            side: "static" or "dynamic".
        """
        seconds = np.array([record[f"{side}_ms"] / 1e3 for record in records])
        pixels = np.array([_step_pixels(record) for record in records])
        columns = np.stack([np.ones_like(seconds), pixels], 1)
        # Errors of a clock are relative: so are those that are squared.
        (fixed, pixel), *_ = np.linalg.lstsq(
            columns / seconds[:, None], np.ones_like(seconds), rcond=None
        )
        deviation = np.abs(seconds / (fixed + pixel * pixels) - 1).max()
        return cls(float(fixed), float(pixel), float(deviation))

    def of(self, pixels: int) -> float:
        """Seconds of a step with so many pixels in all its images."""
        return self.fixed + self.pixel * pixels


def render_step_times(
    records: Sequence[Mapping], batch: int, size: tuple[int, int]
) -> str:
    """Lay out, as Markdown, measured steps and what they say of a larger one.

    Args:
        records: Of ``tools/analysis_tools/training_cost.py --measure``.
        batch: Images of the larger step.
        size: Their (H, W) in pixels.
    """
    sides = ("static", "dynamic")
    measured = _table("step", *(f"{side}, s" for side in sides), "faster",
                      "fewer MACs", markdown=True)  # fmt: skip
    for record in records:
        batch_, _, *size_ = record["shape"]
        measured.add_row([
            _product(batch_, *size_),
            *(f"{record[f'{side}_ms'] / 1e3:.2f}" for side in sides),
            f"{record['ratio']:.2f}x", f"{record['mac_ratio']:.2f}x",
        ])  # fmt: skip
    fitted = _table("network", "fixed, s", "s / 10^6 pixels", "off the line, at most",
                    f"{_product(batch, *size)}, s", "GFLOP/s",
                    markdown=True)  # fmt: skip
    pixels = batch * size[0] * size[1]
    for side in sides:
        time = StepTime.fit(records, side)
        largest = max(records, key=_step_pixels)
        macs = largest[f"{side}_macs"] * pixels / _step_pixels(largest)
        flops = PASSES * FLOPS_PER_MAC * macs
        fitted.add_row([
            side, f"{time.fixed:.2f}", f"{1e6 * time.pixel:.2f}",
            f"{time.deviation:.1%}", f"{time.of(pixels):.1f}",
            f"{flops / time.of(pixels) / 1e9:.0f}",
        ])  # fmt: skip
    return f"{measured}\n\n{fitted}\n\nMeasured on: {records[0]['machine']}."


def _pixels(size: Sequence[int]) -> int:
    """H * W, with sides as long as the feature maps make them."""
    height, width = (STRIDE * ceil(side / STRIDE) for side in size)
    return height * width


def _step_pixels(record: Mapping) -> int:
    batch, _, height, width = record["shape"]
    return batch * height * width


def _product(*factors: int) -> str:
    return " x ".join(map(str, factors))


def _table(first: str, *columns: str, markdown: bool) -> PrettyTable:
    table = markdown_table(first, *columns)
    if not markdown:
        table.set_style(TableStyle.DEFAULT)
    return table
