"""How Sphinx builds the site: `make docs`."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "mmseg_dynet"
author = "The mmseg_dynet authors"
copyright = author
# Not imported: that would take torch and the host to show a number.
release = re.search(
    r'^__version__ = "(.+)"$',
    (ROOT / "mmseg_dynet/version.py").read_text("utf-8"),
    re.M,
)[1]
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Shapes have primes, and legends in docstrings are not Python.
smartquotes = False
highlight_language = "text"
html_theme = "furo"
html_title = f"{project} {release}"

# Links to a heading of a page: #what-to-choose-when, as on GitHub.
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
# Types live in annotations, not in docstrings: put them into the lists of arguments.
autodoc_typehints = "description"
napoleon_numpy_docstring = False
# A backbone is described by its class; its arguments are those of its constructor.
napoleon_use_ivar = True

# Our own names must lead somewhere. Those of other projects are described at theirs,
# and a build needs no network to look for them.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!mmseg_dynet\b).*")]


def mark_legends(app, what, name, obj, options, lines):
    """Keep the lines of an indented block apart: legends of modules are tables."""
    if what != "module":
        return
    for i in reversed(range(2, len(lines))):
        text, blank, block = lines[i - 2 : i + 1]
        starts = not text.startswith(" ") and not blank and block.startswith("    ")
        if starts and not text.endswith("::"):
            lines[i - 1 : i] = ["", "::", ""]


def setup(app):
    """Connect what Sphinx calls."""
    app.connect("autodoc-process-docstring", mark_legends)
