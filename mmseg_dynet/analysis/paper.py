"""The FLOPs figures of DyNet as data, each beside the count of our network.

:data:`FIGURES` and :data:`REDUCTIONS` hold what "DyNet: Dynamic Convolution for
Accelerating Convolutional Neural Networks" (arXiv 2004.10694) states; :data:`NETWORKS`
builds the counterparts. "FLOPs" are MACs there. What a figure counts, and in which
unit, differs from row to row; docs/flops.md says how the rules were found.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

import torch
from mmseg.models.backbones import ResNet
from mmseg.models.decode_heads import FCNHead
from prettytable import PrettyTable, TableStyle
from torch import Tensor, nn

from mmseg_dynet.models import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
)

from .complexity import Complexity, count_complexity

UNITS = {"2^20": 2**20, "10^6": 10**6, "10^9": 10**9}

# What a figure counts, by attributes of Complexity.
CONV = ("convolution",)
CONV_HEAD = (*CONV, "head")
CONV_SE_HEAD = (*CONV, "squeeze_excite", "head")
DYNAMIC = (*CONV, "fusion", "prediction")
DYNAMIC_HEAD = (*DYNAMIC, "head")
PART_LABELS = {"convolution": "conv", "squeeze_excite": "SE"}

OUTPUT_STRIDE_8 = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_indices=(3,))

MARKDOWN_BLOCK = "paper-table"
NO_FIGURE = "-"
LEGEND = f"""\
MACs for one image of 224 x 224 pixels (Cityscapes: 768 x 768). conv: convolutions of
the backbone; SE: its squeeze-excite layers; fusion: of kernels; prediction: of
coefficients; head: the classifier (Cityscapes: the FCN head). "v1" is the ImageNet
table of arXiv v1, "earlier" that of the version before it, "quoted" one of its rows
that the paper has from elsewhere; a "{NO_FIGURE}" says that it has no figure."""
REDUCTIONS_LEGEND = """\
MACs saved against the static network. The paper's follow from its figures above; ours
count everything in both networks."""


class BackboneWithHead(nn.Module):
    """The two parts that :func:`count_complexity` tells apart.

    Args:
        backbone: Maps images to a tuple of feature maps.
        head: Maps that tuple to class scores.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to class scores."""
        return self.head(self.backbone(x))


class ClassifierHead(nn.Sequential):
    """Layers behind the global average of the last feature map."""

    def forward(self, outs: tuple[Tensor, ...]) -> Tensor:
        """Map feature maps, the last (B, C, H, W), to class scores (B, 1000)."""
        return super().forward(outs[-1].mean((2, 3)))


def _classifier(backbone: nn.Module, channels: int) -> nn.Module:
    return BackboneWithHead(backbone, ClassifierHead(nn.Linear(channels, 1000)))


def _mobilenet_v2(widen_factor: float) -> nn.Module:
    """Build MobileNetV2: the host's with the 1x1 convolution that it leaves out."""
    backbone = DyMobileNetV2(True, None, widen_factor, out_indices=(7,))
    return _classifier(backbone, 1280)


def _dy_mobile(num_kernels: int | None) -> nn.Module:
    return _classifier(DyMobileNetV2(False, num_kernels, out_indices=(7,)), 1280)


def _mobilenet_v3(arch: str, num_kernels: int | None) -> nn.Module:
    """Build MobileNetV3; without kernels the host's, but at output stride 32."""
    channels, hidden = {"small": (576, 1024), "large": (960, 1280)}[arch]
    head = ClassifierHead(
        nn.Linear(channels, hidden), nn.Hardswish(), nn.Linear(hidden, 1000)
    )
    return BackboneWithHead(DyMobileNetV3(arch, num_kernels), head)


def _shufflenet_v2() -> nn.Module:
    return _classifier(ShuffleNetV2(out_indices=(3,)), 1024)


def _dy_shuffle(widen_factor: float, num_kernels: int | None) -> nn.Module:
    backbone = DyShuffleNetV2(widen_factor, num_kernels, out_indices=(3,))
    return _classifier(backbone, 1024)


def _resnet(depth: int, channels: int) -> nn.Module:
    return _classifier(ResNet(depth, out_indices=(3,)), channels)


def _dy_resnet(depth: int, channels: int, num_kernels: int | None) -> nn.Module:
    return _classifier(DyResNet(depth, num_kernels, out_indices=(3,)), channels)


def _fcn(backbone: nn.Module, in_channels: int, channels: int) -> nn.Module:
    """Build an FCN for Cityscapes, whose head has one 3x3 convolution."""
    head = FCNHead(
        in_channels=in_channels,
        in_index=-1,
        channels=channels,
        num_convs=1,
        concat_input=False,
        num_classes=19,
        norm_cfg=dict(type="BN"),
        # Not used, but the host warns of its default.
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    )
    return BackboneWithHead(backbone, head)


def _fcn_resnet50() -> nn.Module:
    return _fcn(ResNet(50, **OUTPUT_STRIDE_8), in_channels=2048, channels=512)


def _fcn_dy_resnet50(channels: int, num_kernels: int | None) -> nn.Module:
    backbone = DyResNet(50, num_kernels, **OUTPUT_STRIDE_8)
    return _fcn(backbone, in_channels=1024, channels=channels)


@dataclass(frozen=True)
class Network:
    """Our counterpart of a network of the paper.

    Attributes:
        build: Builds it from K, the paper's g_t; None builds the Fix- control. A static
            network takes no notice.
        side: Height and width of the image it is counted for, in pixels.
    """

    build: Callable[[int | None], nn.Module]
    side: int = 224


NETWORKS = {
    "MobileNetV2 (1.0)": Network(lambda _: _mobilenet_v2(1.0)),
    "MobileNetV2 (0.75)": Network(lambda _: _mobilenet_v2(0.75)),
    "MobileNetV2 (0.6)": Network(lambda _: _mobilenet_v2(0.6)),
    "Dy-mobile (1.0)": Network(_dy_mobile),
    "Fix-mobile (1.0)": Network(_dy_mobile),
    "ShuffleNetV2 (1.0)": Network(lambda _: _shufflenet_v2()),
    "Dy-shuffle (1.0)": Network(lambda k: _dy_shuffle(1.0, k)),
    "Dy-shuffle (1.5)": Network(lambda k: _dy_shuffle(1.5, k)),
    "Fix-shuffle (1.5)": Network(lambda k: _dy_shuffle(1.5, k)),
    "MobileNetV3-Small": Network(lambda k: _mobilenet_v3("small", k)),
    "MobileNetV3-Large": Network(lambda k: _mobilenet_v3("large", k)),
    "Dy-MobileNetV3-Small": Network(lambda k: _mobilenet_v3("small", k)),
    "Dy-MobileNetV3-Large": Network(lambda k: _mobilenet_v3("large", k)),
    "ResNet18": Network(lambda _: _resnet(18, 512)),
    "ResNet50": Network(lambda _: _resnet(50, 2048)),
    "Dy-ResNet18": Network(lambda k: _dy_resnet(18, 256, k)),
    "Dy-ResNet50": Network(lambda k: _dy_resnet(50, 1024, k)),
    "FCN on ResNet50": Network(lambda _: _fcn_resnet50(), 768),
    "FCN-256 on Dy-ResNet50": Network(lambda k: _fcn_dy_resnet50(256, k), 768),
    "FCN-512 on Dy-ResNet50": Network(lambda k: _fcn_dy_resnet50(512, k), 768),
}


@cache
def count_network(name: str, num_kernels: int | None) -> Complexity:
    """Count the MACs of a network of :data:`NETWORKS` for one image.

    Args:
        name: Key of :data:`NETWORKS`.
        num_kernels: K, the paper's g_t; None for a static network.
    """
    network = NETWORKS[name]
    with torch.device("meta"):  # needs no memory, draws no weights
        model = network.build(num_kernels)
    return count_complexity(model, (1, 3, network.side, network.side))


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


def render(markdown: bool = False) -> str:
    """Lay out figures and reductions, each a legend and a table, as text.

    Args:
        markdown: Whether the tables are Markdown's.
    """
    figures, reductions = _tabulate_figures(), _tabulate_reductions()
    if markdown:
        figures.set_style(TableStyle.MARKDOWN)
        reductions.set_style(TableStyle.MARKDOWN)
    return f"{LEGEND}\n\n{figures}\n\n{REDUCTIONS_LEGEND}\n\n{reductions}"


def report() -> dict:
    """Collect figures and reductions, with the full counts, for a JSON file."""
    figures = [
        asdict(figure)
        | dict(
            ours=figure.ours,
            deviation_percent=figure.deviation,
            macs=count_network(figure.network, figure.num_kernels).as_dict(),
        )
        for figure in FIGURES
    ]
    reductions = [
        asdict(reduction) | dict(ours=reduction.ours) for reduction in REDUCTIONS
    ]
    return dict(figures=figures, reductions_percent=reductions)


def _tabulate_figures() -> PrettyTable:
    table = PrettyTable(
        ["network", "g_t", "table", "counted", "unit", "paper", "ours", "dev., %"],
        align="r",
    )
    for column in ("network", "table", "counted"):
        table.align[column] = "l"
    for figure in FIGURES:
        table.add_row(
            [
                figure.network,
                figure.num_kernels or "",
                figure.source,
                " + ".join(PART_LABELS.get(part, part) for part in figure.counted),
                figure.unit,
                NO_FIGURE if figure.paper is None else f"{figure.paper:g}",
                f"{figure.ours:.2f}",
                NO_FIGURE if figure.paper is None else f"{figure.deviation:+.2f}",
            ]
        )
    return table


def _tabulate_reductions() -> PrettyTable:
    table = PrettyTable(["network", "against", "paper, %", "ours, %"], align="r")
    table.align["network"] = table.align["against"] = "l"
    for reduction in REDUCTIONS:
        percents = (f"{reduction.paper:.1f}", f"{reduction.ours:.1f}")
        table.add_row([reduction.network, reduction.static, *percents])
    return table
