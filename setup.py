"""Package mmseg_dynet, with its configs, tools and model index where ``mim`` looks.

``mim`` reads them from ``mmseg_dynet/.mim`` of an installed package, and from the
checkout itself when the package is installed with ``pip install -e``. So they are
package data that only happens to live at the root of the repository: the build copies
them into the wheel, and neither copies nor links ever enter the source tree, where
``mim`` would find every config twice.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

PACKAGE = "mmseg_dynet"
MIM_PATTERNS = ("configs/**/*.py", "configs/**/*.yml", "tools/**/*.py", "tools/**/*.sh")

ONEDL = [
    "onedl-mmengine>=0.10.8",
    "onedl-mmcv>=2.3.0",
    "onedl-mmsegmentation>=1.4.0",
]
OPENMMLAB = [
    "mmengine>=0.10.0",
    "mmcv>=2.0.0,<2.2.0",
    "mmsegmentation>=1.2.0",
    "ftfy",  # mmsegmentation imports these two, and requires neither
    "regex",
]
DEPLOY = ["onnx", "onnxruntime", "onnxscript"]
TEST = ["fvcore", "hypothesis", "pytest", "pytest-xdist", "setuptools>=77"]
DOCS = ["furo", "myst-parser", "sphinx"]
LINT = ["pre-commit", "ruff"]


def read_version() -> str:
    """Read the version without importing the package, which would import torch."""
    text = Path(PACKAGE, "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def mim_files() -> list[str]:
    """List what ``mim`` looks for, relative to the root of the repository."""
    found = (path for pattern in MIM_PATTERNS for path in Path().glob(pattern))
    return ["model-index.yml", *sorted(path.as_posix() for path in found)]


class BuildWithMim(build_py):
    """Build the package with a ``.mim`` folder."""

    def finalize_options(self) -> None:
        """Add to the data files of the package what ``mim`` looks for."""
        super().finalize_options()
        target = Path(self.build_lib, PACKAGE, ".mim")
        self.data_files = [*self.data_files, (PACKAGE, "", str(target), mim_files())]


# By default copies stay in build/, and a later build ships those of deleted files, too.
with TemporaryDirectory() as build_base:
    setup(
        name=PACKAGE,
        version=read_version(),
        description="DyNet's dynamic convolution for MMSegmentation: half the width",
        long_description=Path("README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        author="The mmseg_dynet authors",
        license_expression="Apache-2.0",
        license_files=["LICENSE"],
        keywords=["semantic segmentation", "dynamic convolution", "mmsegmentation"],
        classifiers=[
            "Development Status :: 4 - Beta",
            "Intended Audience :: Science/Research",
            "Operating System :: POSIX",
            "Programming Language :: Python :: 3",
            "Programming Language :: Python :: 3.10",
            "Programming Language :: Python :: 3.11",
            "Programming Language :: Python :: 3.12",
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
        ],
        packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
        cmdclass={"build_py": BuildWithMim},
        options={"build": {"build_base": build_base}},
        python_requires=">=3.10,<3.13",
        install_requires=[
            "cityscapesscripts>=2.0",
            "matplotlib",
            "numpy",
            "packaging",
            "pillow",
            "prettytable",
            "rich",
            "scipy",
            "torch>=2.1",
        ],
        # The host is an extra because its two families share their import names:
        # requiring one would break every environment that has the other.
        extras_require={
            "onedl": ONEDL,
            "openmmlab": OPENMMLAB,
            "classification": ["onedl-mmpretrain>=1.3.6", "torchvision"],
            "deploy": DEPLOY,
            "test": TEST,
            "docs": DOCS,
            "dev": [*ONEDL, *DEPLOY, *TEST, *DOCS, *LINT],
        },
    )
