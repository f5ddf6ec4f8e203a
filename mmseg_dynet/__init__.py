"""DyNet (arXiv 2004.10694) for MMSegmentation: dynamic convolution, half the width.

Importing the package registers its modules, so a config needs one line:
``custom_imports = dict(imports=["mmseg_dynet"])``.
"""

from .compatibility import check_host
from .version import __version__

check_host()

from . import registry  # noqa: E402, F401  needs the host that was just checked

__all__ = ["__version__"]
