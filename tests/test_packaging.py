"""What pip installs: one package at top level, with what ``mim`` looks for inside.

The builds run in a copy of the tree and download nothing.
"""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mmseg_dynet
from mmseg_dynet.compatibility import HOST_PACKAGES

ROOT = Path(__file__).parents[1]
FOLDERS = ("mmseg_dynet", "configs", "constraints", "tools")
FILES = ("LICENSE", "MANIFEST.in", "README.md", "model-index.yml")
BUILD_FILES = ("pyproject.toml", "setup.py")
SHIPPED = (".py", ".sh", ".yml")


def build(kind: str, tree: Path, into: Path) -> Path:
    """Build a "wheel" or an "sdist" of the tree as pip does, without its isolation."""
    code = f"from setuptools.build_meta import build_{kind} as b; b({str(into)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True)
    (built,) = into.iterdir()
    return built


def names(wheel: Path) -> set[str]:
    """List the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(tree: Path) -> set[str]:
    """List the files of a tree but for what a build may leave: its metadata."""
    paths = (path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    return {p.as_posix() for p in paths if "mmseg_dynet.egg-info" not in p.parts}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Copy the sources, and add what an earlier build by other means left behind."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in FILES + BUILD_FILES:
        shutil.copy(ROOT / file, copy)
    stale = copy / "build" / "lib" / "mmseg_dynet" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    return copy


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    before = files(tree)
    built = build("wheel", tree, tmp_path_factory.mktemp("wheel"))
    assert files(tree) == before, "the build changed the source tree"
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel as far as it goes without dependencies: unpack it."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


@pytest.fixture(scope="module")
def distribution(installed):
    (info,) = installed.glob("*.dist-info")
    return PathDistribution(info)


def requirements(distribution: Distribution, extra: str = "") -> list[Requirement]:
    """List what the package requires for an extra alone, or without any."""
    parsed = [Requirement(text) for text in distribution.requires]
    if not extra:
        return [r for r in parsed if r.marker is None]
    return [r for r in parsed if r.marker and r.marker.evaluate({"extra": extra})]


def test_version_is_that_of_the_package(distribution):
    assert distribution.version == mmseg_dynet.__version__


def test_wheel_holds_the_package_alone(wheel, tree):
    top_level = {name.split("/")[0] for name in names(wheel)}
    version = mmseg_dynet.__version__
    assert top_level == {"mmseg_dynet", f"mmseg_dynet-{version}.dist-info"}

    modules = {
        n for n in names(wheel) if n.startswith("mmseg_dynet/") and ".mim" not in n
    }
    assert modules == {n for n in files(tree) if n.startswith("mmseg_dynet/")}


def test_wheel_holds_configs_tools_and_index_where_mim_looks(wheel, tree):
    mim = {
        name.removeprefix("mmseg_dynet/.mim/")
        for name in names(wheel)
        if name.startswith("mmseg_dynet/.mim/")
    }
    assert "tools/train.py" in mim
    assert "tools/dist_train.sh" in mim
    assert mim == {
        name
        for name in files(tree)
        if (name.startswith(("configs/", "tools/")) and name.endswith(SHIPPED))
        or name == "model-index.yml"
    }


def test_sdist_builds_the_same_wheel(wheel, tree, tmp_path):
    sdist = build("sdist", tree, tmp_path / "sdist")
    unpacked = tmp_path / "sources"
    # The module's command line works alike in all Pythons, its extractall does not.
    subprocess.run([sys.executable, "-m", "tarfile", "-e", sdist, unpacked], check=True)
    (sources,) = unpacked.iterdir()
    assert names(build("wheel", sources, tmp_path / "wheel")) == names(wheel)


def test_installed_package_imports_and_its_configs_load(installed, tmp_path):
    code = """
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import load
from mmengine.utils import get_installed_path

import mmseg_dynet

mim = Path(get_installed_path("mmseg_dynet"), ".mim")
index = load(str(mim / "model-index.yml"))
missing = [file for file in index["Import"] if not (mim / file).is_file()]
assert not missing, missing
config = mim / "configs/dynet/dy-r50-d8_fcn_4xb2-80k_cityscapes-512x1024.py"
assert Config.fromfile(config).model.backbone.type == "DyResNet"
print(mmseg_dynet.__file__)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert Path(run.stdout.splitlines()[-1]).is_relative_to(installed)


def test_host_is_an_extra_with_the_versions_that_the_guard_asks_for(distribution):
    oldest = {name: v for dists in HOST_PACKAGES.values() for name, v in dists.items()}
    assert not oldest.keys() & {r.name for r in requirements(distribution)}
    for extra in ("onedl", "openmmlab"):
        bounds = {
            r.name: next(s.version for s in r.specifier if s.operator == ">=")
            for r in requirements(distribution, extra)
            if r.name in oldest
        }
        assert len(bounds) == len(HOST_PACKAGES)
        assert bounds.items() <= oldest.items()


def test_tested_versions_are_allowed_and_complete(distribution):
    lines = (ROOT / "constraints" / "onedl.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    tested = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    direct = [
        requirement
        for extra in ("", "onedl", "deploy", "test", "docs")
        for requirement in requirements(distribution, extra)
    ]
    assert len(direct) > 15
    for requirement in direct:
        version = tested[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_every_import_is_required(distribution):
    """A package that only the developer's environment has is missing at the user's."""
    imported = set()
    for path in (ROOT / "mmseg_dynet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    # The host brings these, cv2 as the one of its distributions that suits the machine.
    host = HOST_PACKAGES.keys() | {"cv2"}
    # Of the "deploy" extra (onnxscript brings onnx_ir), imported only where it is used.
    deploy = {"onnxruntime", "onnx_ir"}
    imported -= sys.stdlib_module_names | host | deploy | {"mmseg_dynet"}
    assert {"numpy", "torch"} <= imported

    required = {canonicalize_name(r.name) for r in requirements(distribution)}
    distributions = {canonicalize_name({"PIL": "pillow"}.get(n, n)) for n in imported}
    assert distributions <= required
