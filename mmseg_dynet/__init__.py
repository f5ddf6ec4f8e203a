"""DyNet (arXiv 2004.10694) for MMSegmentation: dynamic convolution, half the width.

Where MMSegmentation is installed, importing the package registers its modules, so a
config needs one line: ``custom_imports = dict(imports=["mmseg_dynet"])``. Without it,
``mmseg_dynet.ops``, ``mmseg_dynet.analysis`` and :func:`mmseg_dynet.dynamize` work on
torch alone.
"""

from .compatibility import check_host, has_host
from .version import __version__

if has_host():
    check_host()
    from . import registry  # noqa: F401

from .models.dynamize import dynamize

__all__ = ["__version__", "dynamize"]
