"""Pictures of predictions, side by side."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

VOID_COLOR = (0, 0, 0)


def colorize(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Paint a label map.

    Args:
        labels: Class indices, (H, W); what is no index into the palette is painted
            black.
        palette: An RGB colour (0 .. 255) for each class.

    Returns:
        An RGB image, (H, W, 3), uint8.
    """
    colors = np.array([*palette, VOID_COLOR], dtype=np.uint8)
    known = (labels >= 0) & (labels < len(palette))
    return colors[np.where(known, labels, len(palette))]


def draw_gallery(
    columns: Mapping[str, Sequence[np.ndarray]],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Figure:
    """Lay out pictures in a grid with a legend of the classes.

    Args:
        columns: Title and pictures, (H, W, 3) uint8 RGB, of each column; all columns
            have as many pictures.
        classes: Names for the legend.
        palette: An RGB colour (0 .. 255) for each class.
    """
    num_rows = len(next(iter(columns.values())))
    height, width = next(iter(columns.values()))[0].shape[:2]
    cell = 3.2  # inches
    figure = Figure(
        figsize=(cell * len(columns), cell * height / width * num_rows + 0.9),
        layout="constrained",
    )
    grid = figure.subplots(num_rows, len(columns), squeeze=False)
    for j, (title, pictures) in enumerate(columns.items()):
        # A config's name is longer than its column, and has no space to break at.
        grid[0][j].set_title(fill(title.replace("_", " "), width=32), fontsize=9)
        for i, picture in enumerate(pictures):
            grid[i][j].imshow(picture)
            grid[i][j].axis("off")
    patches = [
        Patch(color=np.array(color) / 255, label=name)
        for name, color in zip(classes, palette, strict=True)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=10, fontsize=7)
    return figure
