"""Is the router alive: do a network's coefficients follow the image?

Where they are the same for every image, the layer is a static convolution at the price
of a dynamic one, and a fixed kernel whose coefficient stays near 0 is never used.

Shape legend: see :mod:`mmseg_dynet.ops.functional`. An *image* is one of the B of a
call of the layer; in slide inference, each window is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mmseg_dynet.ops import DyConv2d

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from prettytable import PrettyTable

NUM_BINS = 1000  # of the histograms that quantiles are read from
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DEAD_BELOW = 0.05
SATURATED_ABOVE = 0.95
SCALARS = ("mean", "between_image_std", "between_image_share", "dead", "saturated")


@dataclass(frozen=True)
class CoefficientSummary:
    """The coefficients of one dynamic layer over all images.

    Attributes:
        num_images: Images that were seen.
        out_channels: O.
        num_kernels: K, the fixed kernels an output channel owns (the paper's g_t).
        mean: Over images, channels and kernels, as all that follows.
        quantiles: By their level, each to half a bin, 1 / 2000.
        total_std: Standard deviation.
        between_image_std: Standard deviation of each coefficient over the images, its
            mean over the O * K coefficients.
        between_image_share: between_image_std / total_std, 0 .. 1; at 0 coefficients
            are constants, however much they differ from each other.
        dead: Share of the O * K fixed kernels, 0 .. 1, whose coefficient is below 0.05
            on every image.
        saturated: Share of those whose coefficient is above 0.95 on every image.
    """

    num_images: int
    out_channels: int
    num_kernels: int
    mean: float
    quantiles: dict[float, float]
    total_std: float
    between_image_std: float
    between_image_share: float
    dead: float
    saturated: float

    def scalars(self) -> dict[str, float]:
        """The values that can be averaged over layers, by their names."""
        return {name: getattr(self, name) for name in SCALARS}


class CoefficientRecorder:
    """Record the coefficients that a network's dynamic layers get; a context manager.

    Memory does not grow with the number of images: a layer takes that of five (O, K)
    arrays. Layers are hooked, not changed; :meth:`remove`, or the end of the ``with``
    block, takes the hooks away and leaves the record.

    Args:
        model: The network, in any mode.

    Raises:
        ValueError: The network has no dynamic layer.

    Example:
        >>> with CoefficientRecorder(model) as recorder:
        ...     for images in batches:
        ...         model(images)
        >>> recorder.summarize()["backbone.layer1.0.conv1"].between_image_std
    """

    def __init__(self, model: nn.Module) -> None:
        layers = dynamic_layers(model)
        if not layers:
            raise ValueError(
                f"{type(model).__name__} is static: it has no DyConv2d, hence no "
                "coefficients; take a dynamic network, as configs/*/dy-*.py build it"
            )
        self._statistics = {
            name: _Statistics(layer.out_channels, layer.num_kernels)
            for name, layer in layers.items()
        }
        self._hooks = [
            hook
            for name, layer in layers.items()
            for hook in _hook(layer, self._statistics[name])
        ]

    def summarize(self) -> dict[str, CoefficientSummary]:
        """Summarise each layer that has run, by its dotted name.

        Raises:
            ValueError: A layer has seen one image only, or none has seen any.
        """
        ran = {name: s for name, s in self._statistics.items() if s.num_images}
        num_images = min((s.num_images for s in ran.values()), default=0)
        if num_images < 2:
            raise ValueError(
                "to say what varies between images takes at least 2 of them, got "
                f"{num_images}"
            )
        return {name: statistics.summarize() for name, statistics in ran.items()}

    def remove(self) -> None:
        """Stop recording. Once is enough."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "CoefficientRecorder":
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop recording."""
        self.remove()


def dynamic_layers(model: nn.Module) -> dict[str, DyConv2d]:
    """The dynamic layers of a network by their dotted names; none if it is static."""
    return {n: m for n, m in model.named_modules() if isinstance(m, DyConv2d)}


def average(layers: Mapping[str, CoefficientSummary]) -> dict[str, float]:
    """Average the scalars of layers, each weighted by its O * K fixed kernels.

    So "dead" is the share of all fixed kernels of the network.
    """
    summaries = layers.values()
    weights = [s.out_channels * s.num_kernels for s in summaries]
    return {
        name: float(np.average([getattr(s, name) for s in summaries], weights=weights))
        for name in SCALARS
    }


def tabulate(report: Mapping) -> "PrettyTable":
    """A row a layer, and one for all.

    Args:
        report: As ``tools/analysis_tools/coefficients.py --json`` writes it: the
            "average" of :func:`average`, and "layers", the fields of each summary.
    """
    from prettytable import PrettyTable  # not above, as in draw_coefficients

    layers = report["layers"]
    table = PrettyTable(
        ["layer", "K", "mean", *(f"{level:.0%}" for level in QUANTILES),
         "between-image std", "share of std, %", "dead, %", "saturated, %"], align="r",
    )  # fmt: skip
    table.align["layer"] = "l"
    num_images = next(iter(layers.values()))["num_images"]
    table.title = f"coefficients over {num_images} images or windows"
    for name, layer in layers.items():
        quantiles = [f"{value:.3f}" for value in layer["quantiles"].values()]
        table.add_row(_row(name, layer["num_kernels"], quantiles, layer))
    table.add_row(_row("all", "", [""] * len(QUANTILES), report["average"]))
    return table


def draw_coefficients(layers: Mapping[str, CoefficientSummary]) -> "Figure":
    """Plot layers: how coefficients lie, vary from image to image, and saturate.

    Args:
        layers: Summaries by name, from the first layer at the top to the last.
    """
    # Not above: a hook imports this module, and so does every user of the package.
    from matplotlib.figure import Figure

    summaries, rows = list(layers.values()), range(len(layers))
    figure = Figure(figsize=(12, 1.5 + 0.2 * len(layers)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1))
    for draw, axes in zip(
        (_draw_distribution, _draw_variation, _draw_extremes), panels, strict=True
    ):
        draw(axes, rows, summaries)
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    panels[0].set_yticks(rows, list(layers), fontsize=7)
    panels[0].set_ylim(len(layers) - 0.5, -0.5)
    return figure


def _row(
    name: str, num_kernels: object, quantiles: list[str], scalars: Mapping
) -> list[object]:
    shares = ("between_image_share", "dead", "saturated")
    return [
        name, num_kernels, f"{scalars['mean']:.3f}", *quantiles,
        f"{scalars['between_image_std']:.4f}",
        *(f"{100 * scalars[share]:.1f}" for share in shares),
    ]  # fmt: skip


def _draw_distribution(
    axes: "Axes", rows: Sequence[int], summaries: Sequence[CoefficientSummary]
) -> None:
    levels = [[s.quantiles[level] for s in summaries] for level in QUANTILES]
    lowest, first, median, third, highest = levels
    axes.hlines(rows, lowest, highest, label="5 % to 95 %")
    widths = np.subtract(third, first)
    axes.barh(rows, widths, left=first, alpha=0.5, label="25 % to 75 %")
    axes.plot(median, rows, "k|", label="median")
    axes.set(xlim=(0, 1), xlabel="coefficient")


def _draw_variation(
    axes: "Axes", rows: Sequence[int], summaries: Sequence[CoefficientSummary]
) -> None:
    axes.barh(rows, [s.total_std for s in summaries], color="lightgray", label="all")
    axes.barh(rows, [s.between_image_std for s in summaries], label="between images")
    axes.set(xlabel="standard deviation")


def _draw_extremes(
    axes: "Axes", rows: Sequence[int], summaries: Sequence[CoefficientSummary]
) -> None:
    dead = [100 * s.dead for s in summaries]
    saturated = [100 * s.saturated for s in summaries]
    axes.barh(rows, dead, label=f"dead: < {DEAD_BELOW}")
    axes.barh(rows, saturated, left=dead, label=f"saturated: > {SATURATED_ABOVE}")
    axes.set(xlim=(0, 100), xlabel="fixed kernels, %")


class _Statistics:
    """Sums over the images of one layer, of which a summary can be made."""

    def __init__(self, out_channels: int, num_kernels: int) -> None:
        self.num_images = 0
        shape = (out_channels, num_kernels)
        # Sums are taken of differences from the first image: exactly 0 for a constant.
        self._first = torch.zeros(shape, dtype=torch.float64)
        self._sum = torch.zeros_like(self._first)
        self._sum_of_squares = torch.zeros_like(self._first)
        self._min = torch.full_like(self._first, torch.inf)
        self._max = torch.full_like(self._first, -torch.inf)
        self._histogram = torch.zeros(NUM_BINS, dtype=torch.float64)

    def add(self, coeff: Tensor | None) -> None:
        """Add coefficients (B, O, K); None is what a layer gets that predicts none."""
        if coeff is None:
            return
        coeff = coeff.detach().cpu().double()
        if self.num_images == 0:
            self._first = coeff[0].clone()
        self.num_images += len(coeff)
        differences = coeff - self._first
        self._sum += differences.sum(0)
        self._sum_of_squares += differences.square().sum(0)
        self._min = self._min.minimum(coeff.amin(0))
        self._max = self._max.maximum(coeff.amax(0))
        self._histogram += torch.histc(coeff, NUM_BINS, 0, 1)

    def summarize(self) -> CoefficientSummary:
        difference = self._sum / self.num_images  # (O, K), as all below
        mean = self._first + difference
        variance = self._sum_of_squares / self.num_images - difference.square()
        variance = variance.clamp(min=0)  # of rounding
        # The variance of all is that within the coefficients and that between them.
        total_std = (variance.mean() + mean.var(correction=0)).sqrt().item()
        between_image_std = variance.sqrt().mean().item()
        out_channels, num_kernels = mean.shape
        return CoefficientSummary(
            num_images=self.num_images,
            out_channels=out_channels,
            num_kernels=num_kernels,
            mean=mean.mean().item(),
            quantiles=self._quantiles(),
            total_std=total_std,
            between_image_std=between_image_std,
            between_image_share=between_image_std / total_std if total_std else 0.0,
            dead=_share(self._max < DEAD_BELOW),
            saturated=_share(self._min > SATURATED_ABOVE),
        )

    def _quantiles(self) -> dict[float, float]:
        counts = self._histogram.cumsum(0)
        levels = torch.tensor(QUANTILES, dtype=torch.float64)
        bins = torch.searchsorted(counts, levels * counts[-1])
        return dict(
            zip(QUANTILES, ((bins.double() + 0.5) / NUM_BINS).tolist(), strict=True)
        )


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def _hook(layer: DyConv2d, statistics: _Statistics) -> Iterator:
    """Hook what a layer is given, and what its own predictor, if any, predicts for it.

    What a block's predictor predicts is for several layers, and reaches each by name.
    """

    def given(_: nn.Module, args: tuple, kwargs: dict) -> None:
        statistics.add(args[1] if len(args) > 1 else kwargs.get("coeff"))

    def predicted(_: nn.Module, __: tuple, coeffs: tuple) -> None:
        statistics.add(*coeffs)

    yield layer.register_forward_pre_hook(given, with_kwargs=True)
    if layer.predictor is not None:
        yield layer.predictor.register_forward_hook(predicted)
