"""How much the channels of a feature map say the same: the correlation study of DyNet.

The paper compares MobileNetV2 with a dynamic network of the same width by the Pearson
correlations between the channels of their second-last stage. Those of the dynamic one
concentrate between -0.1 and 0.2: its channels repeat one another less.

Definition: the correlation r of two channels is taken over all pixels of all images
together, each pixel being one observation. A channel that is constant over them has
no correlation; it is left out, and counted.

The paper names four bins: strong (S), middle (M), weak (W) and none (N). The edges of
:data:`BIN_EDGES` are ours: those of a common verbal scale of ``|r|``.

Shape legend: B images in the batch, C channels, H and W height and width of the map.

Source: arXiv 2004.10694.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from prettytable import PrettyTable
from torch import Tensor

from mmseg_dynet.engine.checkpoint import short_name

# Of |r|. An edge belongs to the bin above it.
BIN_NAMES = ("N", "W", "M", "S")
BIN_EDGES = (0.2, 0.4, 0.6)
BIN_LEGEND = (
    f"|r|: {BIN_NAMES[0]}"
    + "".join(
        f" < {e} <= {name}" for e, name in zip(BIN_EDGES, BIN_NAMES[1:], strict=True)
    )
    + " (the names are the paper's, the edges are ours)"
)
PAPER_RANGE = (-0.1, 0.2)  # both ends included


class ChannelCorrelation:
    """Correlations between the channels of feature maps that arrive one by one.

    Keeps C sums and a C x C matrix of products, in float64, and no feature map. A
    feature map costs C^2 multiply-accumulates a pixel.

    Example:
        >>> correlation = ChannelCorrelation()
        >>> for image in images:
        ...     correlation.update(network(image))
        >>> Summary.of(correlation.matrix()).mean_magnitude
    """

    def __init__(self) -> None:
        self._pixels = 0
        self._origin = None
        self._sums = 0.0
        self._products = 0.0

    def update(self, features: Tensor) -> None:
        """Take in a feature map.

        Args:
            features: (B, C, H, W), of which C must not change.

        Raises:
            ValueError: A value is not finite.
        """
        values = features.detach().cpu().double().numpy()
        values = values.swapaxes(0, 1).reshape(values.shape[1], -1)  # (C, B * H * W)
        if not np.isfinite(values).all():
            raise ValueError(
                "a feature map has values that are not finite: see whether the network "
                "has diverged in training"
            )
        if self._origin is None:
            self._origin = values[:, :1].copy()
        # Less its first value, a constant channel is exactly 0, and no sum of squares
        # is so large that a variance is lost in it.
        values = values - self._origin
        self._pixels += values.shape[1]
        self._sums += values.sum(1)
        self._products += values @ values.T

    def matrix(self) -> np.ndarray:
        """The correlations of all pairs, (C, C); rows and columns of constants are nan.

        Raises:
            ValueError: There has been no feature map yet.
        """
        if self._pixels == 0:
            raise ValueError("no feature map to correlate: give at least one image")
        covariances = self._products - np.outer(self._sums, self._sums) / self._pixels
        deviations = np.sqrt(np.diag(covariances))
        deviations[deviations == 0] = np.nan
        return np.clip(covariances / np.outer(deviations, deviations), -1, 1)


def pair_correlations(matrix: np.ndarray) -> np.ndarray:
    """The correlation of each pair of different channels, once; no nan.

    Args:
        matrix: Of :meth:`ChannelCorrelation.matrix`, (C, C).
    """
    values = matrix[np.triu_indices(len(matrix), k=1)]
    return values[~np.isnan(values)]


@dataclass(frozen=True)
class Summary:
    """What the correlations of a network come to.

    Attributes:
        channels: C, constant ones included.
        constant: Channels that are constant, and so in no pair.
        pairs: Pairs of different channels, each counted once.
        shares: Of the pairs, in each bin of :data:`BIN_NAMES`, 0 .. 1.
        paper_share: Of the pairs, in :data:`PAPER_RANGE`, 0 .. 1.
        mean_magnitude: The mean of ``|r|`` over the pairs.
    """

    channels: int
    constant: int
    pairs: int
    shares: dict[str, float]
    paper_share: float
    mean_magnitude: float

    @classmethod
    def of(cls, matrix: np.ndarray) -> "Summary":
        """Summarise a matrix of :meth:`ChannelCorrelation.matrix`.

        Raises:
            ValueError: Fewer than two channels vary, so that there is no pair.
        """
        channels = len(matrix)
        constant = int(np.isnan(np.diag(matrix)).sum())
        r = pair_correlations(matrix)
        if r.size == 0:
            raise ValueError(
                f"no pair to correlate: {constant} of {channels} channels are "
                "constant, and at least two must vary"
            )
        counts, _ = np.histogram(np.abs(r), (0, *BIN_EDGES, 1))
        low, high = PAPER_RANGE
        return cls(
            channels=channels,
            constant=constant,
            pairs=r.size,
            shares=dict(zip(BIN_NAMES, (counts / r.size).tolist(), strict=True)),
            paper_share=float(np.mean((low <= r) & (r <= high))),
            mean_magnitude=float(np.abs(r).mean()),
        )


def label(record: Mapping) -> str:
    """What a network is called: after its "config", and its "checkpoint" and folder."""
    return f"{Path(record['config']).stem}, {short_name(record['checkpoint'])}"


def tabulate(report: Mapping) -> PrettyTable:
    """A row a network.

    Args:
        report: As ``tools/analysis_tools/correlation.py --json`` writes it: the
            "stage", and "networks", each with the fields of :class:`Summary`, what it
            is called after (:func:`label`) and how many "images" it saw.
    """
    bins = BIN_NAMES[::-1]
    low, high = PAPER_RANGE
    rows = PrettyTable(
        ["", "images", "channels", "constant", "pairs", *(f"{b}, %" for b in bins),
         f"{low} .. {high}, %", "mean abs. r"], align="r",
    )  # fmt: skip
    rows.title = (
        f"correlations between channels, output {report['stage']} of the backbone"
    )
    rows.align[""] = "l"
    for record in report["networks"]:
        shares = [record["shares"][b] for b in bins] + [record["paper_share"]]
        rows.add_row([
            label(record), record["images"], record["channels"], record["constant"],
            record["pairs"], *(f"{100 * share:.1f}" for share in shares),
            f"{record['mean_magnitude']:.3f}",
        ])  # fmt: skip
    return rows


def draw_correlations(networks: Iterable[tuple[str, np.ndarray]]) -> Figure:
    """Draw the distributions of several networks over one another.

    Args:
        networks: A name and a matrix of :meth:`ChannelCorrelation.matrix` each.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, matrix in networks:
        r = pair_correlations(matrix)
        counts, edges = np.histogram(r, bins=80, range=(-1, 1))
        axes.stairs(100 * counts / r.size, edges, fill=True, alpha=0.5, label=name)
    low, high = PAPER_RANGE
    label = f"{low} .. {high}, where the paper's dynamic network concentrates"
    axes.axvspan(low, high, color="0.9", zorder=0, label=label)
    _mark_bins(axes)
    axes.set(xlabel="r of two channels", ylabel="share of pairs, %", xlim=(-1, 1))
    figure.legend(
        loc="outside lower center", title=BIN_LEGEND, fontsize=8, title_fontsize=8
    )
    return figure


def _mark_bins(axes: Axes) -> None:
    """Name the bins along the top, and draw their edges."""
    edges = np.array([-1, *(-edge for edge in BIN_EDGES[::-1]), *BIN_EDGES, 1])
    names = (*BIN_NAMES[:0:-1], *BIN_NAMES)  # S M W N W M S
    for edge in edges[1:-1]:
        axes.axvline(edge, color="0.4", linestyle=":", linewidth=1)
    top = axes.secondary_xaxis("top")
    top.set_xticks((edges[:-1] + edges[1:]) / 2, names)
    top.tick_params(length=0)
