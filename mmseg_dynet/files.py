"""Files that are either whole or absent, whatever interrupts their writing."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # most of this module's users draw nothing
    from matplotlib.figure import Figure

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that ``path`` never holds half of it.

    The block writes to the yielded path, a hidden file in the same folder with the
    same ending. It takes the place of ``path`` when the block ends, and is removed if
    the block raises.

    Args:
        path: The file to write or replace. Its folder exists.

    Yields:
        The path to write to.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    partial.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON that people can read; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def write_figure(path: Path, figure: "Figure", dpi: int = 120) -> None:
    """Draw a figure; the ending says the format, and the folder is made if missing.

    Args:
        path: PNG, SVG or PDF.
        figure: What to draw.
        dpi: Pixels per inch of a PNG.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=dpi)


def is_whole_png(path: Path) -> bool:
    """Tell a finished PNG from one that is absent, or cut off at the end.

    Looks at the first and the last chunk only, so that thousands of files are checked
    in a second.

    Args:
        path: The file to look at.

    Returns:
        Whether ``path`` is a file that starts and ends as a PNG does
        (https://www.w3.org/TR/png-3/#5PNG-file-signature).
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(len(PNG_SIGNATURE))
        size = file.seek(0, os.SEEK_END)
        if size < len(PNG_SIGNATURE) + len(PNG_END):
            return False
        file.seek(-len(PNG_END), os.SEEK_END)
        return head == PNG_SIGNATURE and file.read() == PNG_END
