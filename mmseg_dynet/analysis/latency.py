"""Time networks side by side, in use and in training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Latency:
    """Median and quartiles of repeated measurements, in milliseconds."""

    median: float
    first: float
    third: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Summarise measurements."""
        points = torch.tensor([0.5, 0.25, 0.75], dtype=torch.double)
        values = torch.tensor(seconds, dtype=torch.double).quantile(points)
        return cls(*(1e3 * values).tolist())

    def __str__(self) -> str:
        return f"{self.median:.1f} ± {(self.third - self.first) / 2:.1f}"

    def as_dict(self, name: str) -> dict[str, float | list[float]]:
        """The values as those of a named call, for a JSON file."""
        return {
            f"{name}_ms": self.median,
            f"{name}_quartiles_ms": [self.first, self.third],
        }


def synchronize() -> None:
    """Wait for the work of a GPU or another accelerator, if there is one."""
    accelerator = getattr(torch, "accelerator", torch.cuda)  # the first: from 2.6
    if accelerator.is_available():
        accelerator.synchronize()


def time_alternating(
    calls: Mapping[str, Callable[[], object]], repeats: int = 10, warmup: int = 2
) -> dict[str, Latency]:
    """Time several calls in turns, A B A B ..., so that a drift affects all alike.

    ``warmup`` rounds, in which caches fill and kernels are chosen, are not timed.

    Returns:
        The time of each call by name, including the GPU work that it starts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    synchronize()
    for round_ in range(warmup + repeats):
        for name, call in calls.items():
            start = perf_counter()
            call()
            synchronize()
            if round_ >= warmup:
                seconds[name].append(perf_counter() - start)
    return {name: Latency.of(values) for name, values in seconds.items()}


def inference_call(
    model: nn.Module, x: Tensor, compiled: bool = False
) -> Callable[[], object]:
    """Make a call without arguments that runs a network, unchanged, once on ``x``.

    If ``compiled``, the network is compiled in the first call.
    """
    if compiled:
        model = torch.compile(model)

    @torch.inference_mode()
    def call() -> object:
        return model(x)

    return call


def training_call(
    model: nn.Module, x: Tensor, num_classes: int, autocast: torch.dtype | None = None
) -> Callable[[], None]:
    """Make a call without arguments that runs one training step, on random labels.

    The network is set to train mode. The loss is that of a segmentor's heads, or else
    cross-entropy; SGD has momentum; ``autocast`` is the dtype of mixed precision.
    """
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    labels = torch.randint(num_classes, (len(x), 1, *x.shape[2:]), device=x.device)
    loss = _segmentor_loss if hasattr(model, "parse_losses") else _classifier_loss

    def call() -> None:
        enabled = autocast is not None
        with torch.autocast(x.device.type, autocast, enabled=enabled):
            total = loss(model, x, labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return call


def _segmentor_loss(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    # The host is not needed for anything else.
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for label in labels:
        edges = PixelData(data=(label == 0).long())  # for PIDNet
        truth = dict(gt_sem_seg=PixelData(data=label), gt_edge_map=edges)
        samples.append(SegDataSample(**truth))
    return model.parse_losses(model(x, samples, mode="loss"))[0]


def _classifier_loss(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(x), labels[:, 0, 0, 0])
