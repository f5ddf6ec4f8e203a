"""The FLOPs figures of DyNet as data, each beside the count of our network.

:data:`FIGURES` and :data:`REDUCTIONS` hold what "DyNet: Dynamic Convolution for
Accelerating Convolutional Neural Networks" (arXiv 2004.10694) states; :data:`NETWORKS`
builds the counterparts. "FLOPs" are MACs there. What a figure counts, and in which
unit, differs from row to row; docs/flops.md says how the rules were found.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch

from mmseg_dynet.analysis.complexity import Complexity, count_complexity
from mmseg_dynet.models.paper_networks import IMAGE_SIDES, NETWORKS

UNITS = {"2^20": 2**20, "10^6": 10**6, "10^9": 10**9}

# What a figure counts, by attributes of Complexity.
CONV = ("convolution",)
CONV_HEAD = (*CONV, "head")
CONV_SE_HEAD = (*CONV, "squeeze_excite", "head")
DYNAMIC = (*CONV, "fusion", "prediction")
DYNAMIC_HEAD = (*DYNAMIC, "head")
PART_LABELS = {"convolution": "conv", "squeeze_excite": "SE"}

NO_FIGURE = "-"
LEGEND = f"""\
MACs for one image of 224 x 224 pixels (Cityscapes: 768 x 768). conv: convolutions of
the backbone; SE: its squeeze-excite layers; fusion: of kernels; prediction: of
coefficients; head: the classifier (Cityscapes: the FCN head). "v1": the ImageNet table
of arXiv v1; "earlier": that of the ICLR 2020 submission; "quoted": rows that the paper
takes from elsewhere; "ablation": its tables on g_t and on Fix- networks. "{NO_FIGURE}":
the paper has no figure."""
REDUCTIONS_LEGEND = """\
MACs saved against the static network. The paper's follow from its figures above; ours
count everything in both networks."""


@cache
def count_network(name: str, num_kernels: int | None) -> Complexity:
    """Count the MACs of a network of :data:`NETWORKS` for one image.

    Args:
        name: Key of :data:`NETWORKS`.
        num_kernels: K, the paper's g_t; None for a static network.
    """
    with torch.device("meta"):  # needs no memory
        model = NETWORKS[name](num_kernels)
    side = IMAGE_SIDES[name]
    return count_complexity(model, (1, 3, side, side))


@dataclass(frozen=True)
class Figure:
    """A FLOPs figure of the paper, and what of our network is comparable with it.

    Attributes:
        network: Key of :data:`NETWORKS`.
        num_kernels: K, the paper's g_t; None for a static network.
        source: The table of the paper.
        counted: The attributes of :class:`Complexity` to add up.
        unit: Key of :data:`UNITS`.
        paper: The figure; None where the paper has none, to show what it leaves out.
    """

    network: str
    num_kernels: int | None
    source: str
    counted: tuple[str, ...]
    unit: str
    paper: float | None

    @property
    def ours(self) -> float:
        """The count of our network, in the figure's unit."""
        counts = count_network(self.network, self.num_kernels)
        return sum(getattr(counts, part) for part in self.counted) / UNITS[self.unit]

    @property
    def deviation(self) -> float | None:
        """How far ours lies above the paper's figure, in percent of it."""
        return None if self.paper is None else 100 * (self.ours / self.paper - 1)


@dataclass(frozen=True)
class Reduction:
    """A reduction that the paper states, of a dynamic network against a static one.

    Attributes:
        network: Key of :data:`NETWORKS`; counted with six kernels.
        static: Key of :data:`NETWORKS`.
        paper: In percent of the static network.
    """

    network: str
    static: str
    paper: float

    @property
    def ours(self) -> float:
        """The reduction of ours, in percent, everything counted in both networks."""
        static = count_network(self.static, None)
        return 100 * (1 - count_network(self.network, 6).macs / static.macs)


FIGURES = (
    Figure("MobileNetV2 (1.0)", None, "v1", CONV_HEAD, "10^6", 298),
    Figure("MobileNetV2 (0.75)", None, "quoted", CONV_HEAD, "10^6", 145),
    Figure("MobileNetV2 (0.6)", None, "quoted", CONV_HEAD, "10^6", 141),
    Figure("Dy-mobile (1.0)", 6, "earlier", CONV, "10^6", 129),
    Figure("Dy-mobile (1.0)", 6, "v1", DYNAMIC, "10^6", 135),
    Figure("Dy-mobile (1.0)", 4, "ablation", CONV, "10^6", 129),
    Figure("Dy-mobile (1.0)", 4, "ablation", DYNAMIC, "10^6", None),
    Figure("Dy-mobile (1.0)", 2, "ablation", CONV, "10^6", 129),
    Figure("Dy-mobile (1.0)", 2, "ablation", DYNAMIC, "10^6", None),
    Figure("Dy-mobile (1.0)", 1, "ablation", CONV, "10^6", 129),
    Figure("Dy-mobile (1.0)", 1, "ablation", DYNAMIC, "10^6", None),
    Figure("Fix-mobile (1.0)", None, "ablation", CONV, "10^6", 129),
    Figure("ShuffleNetV2 (1.0)", None, "v1", CONV_HEAD, "10^6", 146),
    Figure("Dy-shuffle (1.0)", 6, "earlier", CONV, "2^20", 88),
    Figure("Dy-shuffle (1.0)", 6, "v1", DYNAMIC, "2^20", 92),
    Figure("Dy-shuffle (1.5)", 6, "ablation", CONV, "2^20", 171),
    Figure("Fix-shuffle (1.5)", None, "ablation", CONV, "2^20", 171),
    Figure("MobileNetV3-Small", None, "v1", CONV_SE_HEAD, "10^6", 56),
    Figure("Dy-MobileNetV3-Small", 6, "v1", DYNAMIC, "10^6", 59),
    Figure("MobileNetV3-Large", None, "v1", CONV_SE_HEAD, "10^6", 219),
    Figure("Dy-MobileNetV3-Large", 6, "v1", DYNAMIC, "10^6", 228),
    Figure("ResNet18", None, "v1", CONV_HEAD, "2^20", 1730),
    Figure("Dy-ResNet18", 6, "earlier", CONV_HEAD, "2^20", 550),
    Figure("Dy-ResNet18", 6, "v1", DYNAMIC_HEAD, "2^20", 567),
    Figure("Dy-ResNet18", 1, "ablation", CONV_HEAD, "2^20", 550),
    Figure("Dy-ResNet18", 1, "ablation", DYNAMIC_HEAD, "2^20", None),
    Figure("ResNet50", None, "v1", CONV_HEAD, "2^20", 3890),
    Figure("Dy-ResNet50", 6, "earlier", CONV_HEAD, "2^20", 1075),
    Figure("Dy-ResNet50", 6, "v1", DYNAMIC_HEAD, "2^20", 1119),
    Figure("FCN on ResNet50", None, "Cityscapes", CONV_HEAD, "10^9", 310.8),
    Figure("FCN-256 on Dy-ResNet50", 6, "Cityscapes", DYNAMIC_HEAD, "10^9", 95.6),
    Figure("FCN-512 on Dy-ResNet50", 6, "Cityscapes", DYNAMIC_HEAD, "10^9", 95.6),
)

REDUCTIONS = (
    Reduction("Dy-mobile (1.0)", "MobileNetV2 (1.0)", 54.7),
    Reduction("Dy-shuffle (1.0)", "ShuffleNetV2 (1.0)", 37.0),
    Reduction("Dy-ResNet18", "ResNet18", 67.2),
    Reduction("Dy-ResNet50", "ResNet50", 71.3),
    Reduction("FCN-256 on Dy-ResNet50", "FCN on ResNet50", 69.3),
    Reduction("FCN-512 on Dy-ResNet50", "FCN on ResNet50", 69.3),
)


def markdown(head: Iterable[str], rows: Iterable[Iterable[object]], left: int) -> str:
    """Lay out a table, the first columns flush left and the others flush right."""
    head = list(head)
    rule = [":--"] * left + ["--:"] * (len(head) - left)
    lines = [head, rule, *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def figures_table() -> str:
    """Tabulate every figure beside ours, below a legend."""
    rows = [
        [
            figure.network,
            figure.source,
            " + ".join(PART_LABELS.get(part, part) for part in figure.counted),
            figure.num_kernels or "",
            figure.unit,
            NO_FIGURE if figure.paper is None else f"{figure.paper:g}",
            f"{figure.ours:.2f}",
            NO_FIGURE if figure.paper is None else f"{figure.deviation:+.2f}",
        ]
        for figure in FIGURES
    ]
    head = ["network", "table", "counted", "g_t", "unit", "paper", "ours", "dev., %"]
    return f"{LEGEND}\n\n{markdown(head, rows, left=3)}"


def reductions_table() -> str:
    """Tabulate the reductions, below a legend."""
    rows = [
        [r.network, r.static, f"{r.paper:.1f}", f"{r.ours:.1f}"] for r in REDUCTIONS
    ]
    head = ["network", "against", "paper, %", "ours, %"]
    return f"{REDUCTIONS_LEGEND}\n\n{markdown(head, rows, left=2)}"
