"""How much the channels of a feature map repeat one another: DyNet's correlation study.

The paper compares MobileNetV2 with a dynamic network of the same width by the Pearson
correlations between the channels of their second-last stage. Those of the dynamic one
concentrate between -0.1 and 0.2.

The correlation r of two channels is taken over all pixels of all images together, each
pixel being one observation. A channel that is constant over them has no correlation; it
is left out, and counted.

The paper names four bins: strong (S), middle (M), weak (W) and none (N). The edges of
:data:`BIN_EDGES` are ours: those of a common verbal scale of ``|r|``.

Shape legend: B images in the batch, C channels, H and W height and width of the map.

Source: arXiv 2004.10694.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

BIN_NAMES = ("N", "W", "M", "S")
BIN_EDGES = (0.2, 0.4, 0.6)  # of |r|; an edge belongs to the bin above it
BIN_LEGEND = "|r|: N < 0.2 <= W < 0.4 <= M < 0.6 <= S (names: the paper, edges: ours)"
PAPER_RANGE = (-0.1, 0.2)  # both ends included


class ChannelCorrelation:
    """Correlations between the channels of feature maps that arrive one by one.

    Keeps C sums and a C x C matrix of products, in float64, and no feature map. A
    feature map costs C^2 multiply-accumulates per pixel.

    Example:
        >>> correlation = ChannelCorrelation()
        >>> for image in images:
        ...     correlation.update(network(image))
        >>> summarize(correlation.matrix())["mean_magnitude"]
    """

    def __init__(self) -> None:
        self._pixels = 0
        self._origin = None
        self._sums = 0.0
        self._products = 0.0

    def update(self, features: Tensor) -> None:
        """Add a feature map (B, C, H, W), of which C must not change."""
        values = features.detach().cpu().double().numpy()
        values = values.swapaxes(0, 1).reshape(values.shape[1], -1)  # (C, B * H * W)
        if self._origin is None:
            self._origin = values[:, :1].copy()
        # Minus its first value, a constant channel is exactly 0, and no sum of squares
        # is so large that a variance is lost in it.
        values = values - self._origin
        self._pixels += values.shape[1]
        self._sums += values.sum(1)
        self._products += values @ values.T

    def matrix(self) -> np.ndarray:
        """Return (C, C) correlations; rows and columns of constant channels are nan."""
        covariances = self._products - np.outer(self._sums, self._sums) / self._pixels
        deviations = np.sqrt(np.diag(covariances))
        deviations[deviations == 0] = np.nan
        return np.clip(covariances / np.outer(deviations, deviations), -1, 1)


def pair_correlations(matrix: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair of different channels once, without nan."""
    values = matrix[np.triu_indices(len(matrix), k=1)]
    return values[~np.isnan(values)]


def summarize(matrix: np.ndarray) -> dict:
    """Summarise a matrix of :meth:`ChannelCorrelation.matrix`.

    Returns:
        "channels", "constant" ones among them, "pairs" of the others, the "shares" of
        the pairs in each bin, the "paper_share" in :data:`PAPER_RANGE`, and
        "mean_magnitude", the mean of ``|r|``.
    """
    r = pair_correlations(matrix)
    counts, _ = np.histogram(np.abs(r), (0, *BIN_EDGES, 1))
    low, high = PAPER_RANGE
    return dict(
        channels=len(matrix),
        constant=int(np.isnan(np.diag(matrix)).sum()),
        pairs=r.size,
        shares=dict(zip(BIN_NAMES, (counts / r.size).tolist(), strict=True)),
        paper_share=float(np.mean((low <= r) & (r <= high))),
        mean_magnitude=float(np.abs(r).mean()),
    )


def draw_correlations(matrices: Mapping[str, np.ndarray]) -> Figure:
    """Draw the distributions of several networks, given by name, over one another."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, matrix in matrices.items():
        r = pair_correlations(matrix)
        counts, edges = np.histogram(r, bins=80, range=(-1, 1))
        axes.stairs(100 * counts / r.size, edges, fill=True, alpha=0.5, label=name)
    low, high = PAPER_RANGE
    shade = f"{low} .. {high}, where the paper's dynamic network concentrates"
    axes.axvspan(low, high, color="0.9", zorder=0, label=shade)
    for edge in BIN_EDGES:
        for x in (-edge, edge):
            axes.axvline(x, color="0.4", linestyle=":", linewidth=1)
    axes.set(xlabel="r of two channels", ylabel="share of pairs, %", xlim=(-1, 1))
    figure.legend(loc="outside lower center", title=BIN_LEGEND, fontsize=8)
    return figure
