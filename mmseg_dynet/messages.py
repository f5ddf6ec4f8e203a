"""What error messages have in common."""

from collections.abc import Collection
from itertools import islice

NUM_NAMED = 5


def some(names: Collection[str]) -> str:
    """The first few of some names, and whether there are more."""
    shown = ", ".join(islice(names, NUM_NAMED))
    return shown + (", ..." if len(names) > NUM_NAMED else "")
