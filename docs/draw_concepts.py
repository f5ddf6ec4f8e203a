"""Draw the pictures of docs/concepts.md into docs/images.

Texts stay texts in the files, so that what a picture says can be compared.
"""

from argparse import ArgumentParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mmseg_dynet.analysis.complexity import Complexity, count_complexity
from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.files import replacing
from mmseg_dynet.ops import conv2d_per_image, fuse_kernels

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
STATIC = ROOT / "configs/fcn/r50-d8_fcn_4xb2-80k_cityscapes-512x1024.py"
DYNAMIC = STATIC.with_name(f"dy-{STATIC.name}")
SIZES = ((64, 128), (128, 256), (256, 512), (512, 1024), (1024, 2048))
PARTS = {
    "convolutions": ("convolution", "head"),
    "kernel fusion": ("fusion",),
    "coefficient prediction": ("prediction",),
}

# Of an edge filter across, one down, a blur and a sharpener, by hand: learned banks
# look like noise.
BANK = torch.tensor([
    [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
    [[0, -2, 0], [-2, 8, -2], [0, -2, 0]],
]) / 8  # fmt: skip
COEFF = torch.tensor([[0.9, 0.1, 0.3, 0.2], [0.1, 0.8, 0.2, 0.6]])
STATIC_COLOR, DYNAMIC_COLOR, PREDICTOR_COLOR = "#dfe5ec", "#ffd9a8", "#c9e4ca"


def dynamic_kernel() -> Figure:
    """Two images, one bank: coefficients, fused kernels, feature maps."""
    images = torch.stack([_bars(across=True), _bars(across=False)])[:, None]
    kernels = fuse_kernels(BANK[None, :, None], COEFF[:, None])  # (B, 1, 1, 3, 3)
    maps = conv2d_per_image(images, kernels)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=(3, 3, 5, 3, 3))
    bank = grid[:, 2].subgridspec(2, 2)
    for k, fixed in enumerate(BANK):
        axes = figure.add_subplot(bank[k // 2, k % 2])
        _show_kernel(axes, fixed, f"bank: $w_{k + 1}$")
    names = [rf"$\eta_{k + 1}$" for k in range(len(BANK))]
    for b, row in enumerate(("image 1", "image 2")):
        image, coeff, kernel, out = (
            figure.add_subplot(grid[b, column]) for column in (0, 1, 3, 4)
        )
        _show_map(image, images[b, 0], row)
        bars = coeff.bar(
            names, COEFF[b].numpy(), color=PREDICTOR_COLOR, edgecolor="black"
        )
        coeff.bar_label(bars, fontsize=8)
        coeff.set(ylim=(0, 1.1), yticks=(0, 1), title="coefficients")
        _show_kernel(kernel, kernels[b, 0, 0], r"fused: $\Sigma_k \eta_k w_k$")
        _show_map(out, maps[b, 0], "convolved")
    return figure


def _bars(across: bool) -> torch.Tensor:
    """A picture (H, W) of a tilted grating in a disc."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 48)] * 2, indexing="ij")
    phase = 14 * (x + 0.2 * y if across else y + 0.2 * x)
    return torch.where(x**2 + y**2 < 0.8, phase.sin(), 0.0)


def _show_map(axes: Axes, values: torch.Tensor, title: str) -> None:
    axes.imshow(values.numpy(), cmap="gray", vmin=-1.5, vmax=1.5)
    axes.set(xticks=(), yticks=(), title=title)


def _show_kernel(axes: Axes, kernel: torch.Tensor, title: str) -> None:
    axes.imshow(kernel.numpy(), cmap="RdBu", vmin=-1.5, vmax=1.5)
    for (y, x), value in np.ndenumerate(kernel.numpy()):
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7)
    axes.set(xticks=(), yticks=(), title=title)


def dynamic_block() -> Figure:
    """A bottleneck of Dy-ResNet: one predictor, three dynamic convolutions."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 20), ylim=(0, 8))
    axes.axis("off")
    _box(axes, 0.2, 3, "input\n(B, C, H, W)", "white")
    layers = (("1x1", "BN, ReLU"), ("3x3", "BN, ReLU"), ("1x1", "BN"))
    for i, (kernel, after) in enumerate(layers):
        x = 4.6 + 4.2 * i
        _box(axes, x, 3, f"dynamic {kernel}\n{after}", DYNAMIC_COLOR)
        _arrow(axes, (x - (1.4 if i else 1.6), 4), (x, 4))
        _arrow(axes, (x + 1.4, 6.2), (x + 1.4, 5), f"(B, O{i + 1}, K)")
    _box(axes, 17.2, 3, "sum\nReLU", "white", width=2.4)
    _arrow(axes, (15.8, 4), (17.2, 4))
    _arrow(axes, (19.6, 4), (20, 4))
    predictor = (
        "predictor, once a block: mean over H, W; linear C to C/4, ReLU;\n"
        "linear C/4 to (O1 + O2 + O3) K, sigmoid; split"
    )
    _box(axes, 3.4, 6.2, predictor, PREDICTOR_COLOR, width=13.2, height=1.4)
    axes.plot((2, 2), (5, 6.9), color="black")
    _arrow(axes, (2, 6.9), (3.4, 6.9))
    shortcut = "shortcut, static: identity, or 1x1 and BN"
    _box(axes, 4.6, 0.4, shortcut, STATIC_COLOR, width=11.2, height=1.2)
    axes.plot((2, 2), (3, 1), color="black")
    _arrow(axes, (2, 1), (4.6, 1))
    axes.plot((15.8, 18.4), (1, 1), color="black")
    _arrow(axes, (18.4, 1), (18.4, 3))
    return figure


def _box(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    color: str,
    width: float = 2.8,
    height: float = 2,
) -> None:
    style = "round,pad=0,rounding_size=0.2"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, fc=color, ec="black")
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center")


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = ""
) -> None:
    axes.annotate("", end, start, arrowprops=dict(arrowstyle="-|>", color="black"))
    axes.text(start[0] + 0.15, (start[1] + end[1]) / 2, text, va="center", fontsize=9)


def cost_split() -> Figure:
    """MACs of FCN on Dy-ResNet-50 by purpose, over the image size."""
    dynamic, static = (_counts(path) for path in (DYNAMIC, STATIC))
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    labels = [
        f"{height} x {width}\nsaved: {100 * (1 - d.macs / s.macs):.1f} %"
        for (height, width), d, s in zip(SIZES, dynamic, static, strict=True)
    ]
    lines = {"static network, all": [c.macs for c in static]}
    for name, parts in PARTS.items():
        lines[f"dynamic, {name}"] = [sum(getattr(c, p) for p in parts) for c in dynamic]
    for name, macs in lines.items():
        style = "k--o" if name.startswith("static") else "-o"
        axes.plot(labels, np.array(macs) / 1e9, style, label=name)
        for x, value in enumerate(macs):
            axes.annotate(
                f"{value / 1e9:.4g}", (x, value / 1e9), (0, 5), ha="center",
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
    axes.set(yscale="log", ylabel="GMACs", title="FCN on Dy-ResNet-50-D8, one image")
    axes.margins(y=0.1)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _counts(path: Path) -> list[Complexity]:
    with torch.device("meta"):
        model = build_model(load_config(str(path)))
    return [count_complexity(model, (1, 3, *size)) for size in SIZES]


PICTURES = {
    "dynamic-kernel.svg": dynamic_kernel,
    "dynamic-block.svg": dynamic_block,
    "cost-split.svg": cost_split,
}


def main():
    """Draw all of them."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder to draw into")
    out = parser.parse_args().out
    # The same picture is the same file.
    options = {"svg.fonttype": "none", "svg.hashsalt": "mmseg_dynet"}
    with mpl.rc_context(options):
        for name, draw in PICTURES.items():
            with replacing(out / name) as partial:
                draw().savefig(partial, metadata={"Date": None})


if __name__ == "__main__":
    main()
