"""Write files that are complete or absent, whatever interrupts the writing."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # most users of this module plot nothing
    from matplotlib.figure import Figure


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file such that ``path`` never holds half of it.

    Yields a hidden path in the same folder (created if missing), with the same suffix.
    The file there replaces ``path`` when the block ends, and is removed if it raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write indented JSON."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def write_figure(path: Path, figure: "Figure") -> None:
    """Save a figure as its extension says, such as .svg, or else as PNG."""
    kind = path.suffix.lstrip(".").lower()
    supported = figure.canvas.get_supported_filetypes()
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format=kind if kind in supported else "png")
