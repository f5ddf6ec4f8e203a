"""What pip installs: one package at top level, with what ``mim`` looks for inside.

The builds run in a copy of the tree and download nothing.
"""

import ast
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mmseg_dynet
from mmseg_dynet.compatibility import HOST_PACKAGES

ROOT = Path(__file__).parents[1]
FOLDERS = ("mmseg_dynet", "configs", "tools")
FILES = ("LICENSE", "MANIFEST.in", "README.md", "model-index.yml")
BUILD_FILES = ("pyproject.toml", "setup.py")


def build(kind: str, tree: Path, into: Path) -> Path:
    """Build a "wheel" or an "sdist" of the tree as pip does, without its isolation."""
    code = f"from setuptools.build_meta import build_{kind} as b; b({str(into)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True)
    (built,) = into.iterdir()
    return built


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Copy the sources, and add what an earlier build left behind."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in FILES + BUILD_FILES:
        shutil.copy(ROOT / file, copy)
    for stale in ("stale.py", ".mim/tools/stale.py"):
        path = copy / "build/lib/mmseg_dynet" / stale
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return copy


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


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


def requirements(distribution: PathDistribution, extra: str = "") -> list[Requirement]:
    """List what the package requires for an extra alone, or without any."""
    parsed = [Requirement(text) for text in distribution.requires]
    if not extra:
        return [r for r in parsed if r.marker is None]
    return [r for r in parsed if r.marker and r.marker.evaluate({"extra": extra})]


def test_wheel_holds_the_package_and_what_mim_looks_for(wheel, distribution):
    version = mmseg_dynet.__version__
    assert distribution.version == version
    sources = [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for suffix in (".py", ".sh", ".yml")
        for path in (ROOT / folder).rglob(f"*{suffix}")
        if ".mim" not in path.parts
    ]
    package = {name for name in sources if name.startswith("mmseg_dynet/")}
    mim = {"model-index.yml", *sources} - package
    assert {"configs/dynet/metafile.yml", "tools/dist_train.sh"} < mim
    expected = package | {f"mmseg_dynet/.mim/{name}" for name in mim}
    metadata = f"mmseg_dynet-{version}.dist-info/"
    assert {n for n in names(wheel) if not n.startswith(metadata)} == expected


def test_sdist_builds_the_same_wheel(wheel, tree, tmp_path):
    sdist = build("sdist", tree, tmp_path / "sdist")
    unpacked = tmp_path / "sources"
    # The module's command line works alike in all Pythons, its extractall does not.
    subprocess.run([sys.executable, "-m", "tarfile", "-e", sdist, unpacked], check=True)
    (sources,) = unpacked.iterdir()
    assert names(build("wheel", sources, tmp_path / "wheel")) == names(wheel)


def test_installed_configs_load(installed):
    mim = installed / "mmseg_dynet/.mim"
    index = load(str(mim / "model-index.yml"))
    assert all((mim / file).is_file() for file in index["Import"])
    config = mim / "configs/dynet/dy-r50-d8_fcn_4xb2-80k_cityscapes-512x1024.py"
    assert Config.fromfile(config).model.backbone.type == "DyResNet"


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
    lines = (ROOT / "constraints/onedl.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    tested = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    for extra in ("", "onedl", "deploy", "test", "docs"):
        for requirement in requirements(distribution, extra):
            version = tested[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement


def test_every_import_is_required(distribution):
    """A package that only the developer's environment has is missing at the user's."""
    imported = set()
    for path in (*ROOT.glob("mmseg_dynet/**/*.py"), *ROOT.glob("tools/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    # The host brings these, cv2 as the one of its distributions that suits the machine.
    host = HOST_PACKAGES.keys() | {"cv2"}
    # Of extras (onnxscript brings onnx_ir), imported only where they are used.
    deploy = {"onnxruntime", "onnx_ir", "openvino"}
    imported -= sys.stdlib_module_names | host | deploy | {"mmseg_dynet"}
    required = {canonicalize_name(r.name) for r in requirements(distribution)}
    distributions = {canonicalize_name({"PIL": "pillow"}.get(n, n)) for n in imported}
    # Nothing is required in vain either.
    assert distributions == required
