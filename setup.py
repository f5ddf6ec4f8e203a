"""Ship configs, tools and the model index where ``mim`` looks for them.

All metadata stands in ``pyproject.toml``. ``mim`` reads these files from
``mmseg_dynet/.mim`` of an installed package, and from the checkout itself after
``pip install -e``, so they are copied into the wheel and never into the source tree.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (
    "model-index.yml",
    "configs/**/*.py",
    "configs/**/*.yml",
    "tools/**/*.py",
    "tools/**/*.sh",
)


class BuildWithMim(build_py):
    """Build the package with a ``.mim`` folder."""

    def run(self) -> None:
        """Build the package from nothing, then add what ``mim`` looks for."""
        package = Path(self.build_lib, "mmseg_dynet")
        if not self.editable_mode:
            # An earlier build may have left files that have been deleted since.
            shutil.rmtree(package, ignore_errors=True)
        super().run()
        if self.editable_mode:
            return
        for pattern in SHIPPED:
            for path in sorted(Path().glob(pattern)):
                target = package / ".mim" / path
                self.mkpath(str(target.parent))
                self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithMim})
