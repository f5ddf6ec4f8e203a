"""Generated tables and blocks in documents that people write.

A block is replaced in place, never by hand. It stands between two lines,
``<!-- NAME -->`` and ``<!-- /NAME -->``, which a reader of the rendered page does not
see.
"""

from pathlib import Path

from prettytable import PrettyTable, TableStyle

from .files import replacing


def markdown_table(first: str, *columns: str) -> PrettyTable:
    """An empty table: the first column is flush left, numbers follow, flush right.

    Args:
        first: Head of the first column.
        *columns: Heads of the others.
    """
    table = PrettyTable([first, *columns], align="r")
    table.align[first] = "l"
    table.set_style(TableStyle.MARKDOWN)
    return table


def read_block(path: Path, name: str) -> str:
    """Read a block of a document.

    Args:
        path: The document.
        name: Of the block.

    Returns:
        What stands between the two lines, without the blank space around it.

    Raises:
        ValueError: The document does not have the block exactly once.
    """
    return _split_at_block(path, name)[1].strip()


def update_block(path: Path, name: str, content: str) -> None:
    """Replace a block of a document, which is whole at any time.

    Args:
        path: The document.
        name: Of the block.
        content: What is to stand between the two lines.

    Raises:
        ValueError: The document does not have the block exactly once.
    """
    before, _, after = _split_at_block(path, name)
    with replacing(path) as partial:
        partial.write_text(f"{before}\n\n{content.strip()}\n\n{after}", "utf-8")


def _split_at_block(path: Path, name: str) -> tuple[str, str, str]:
    """Split a document in three: up to the first line, between, from the second on."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = path.read_text("utf-8")
    before, _, rest = text.partition(start)
    between, _, after = rest.partition(end)
    if (text.count(start), text.count(end), rest.count(end)) != (1, 1, 1):
        raise ValueError(
            f"{path} must have one line {start} and, below it, one line {end}: "
            "the text between them is generated"
        )
    return before + start, between, end + after
