"""Imports point one way, and torch alone is enough for the op and its analysis."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mmseg_dynet"
MODULES = sorted(PACKAGE.rglob("*.py"))
# What each part of the package may import of the package.
ALLOWED = {
    "version": set(),
    "compatibility": set(),
    "files": set(),
    "ops": set(),
    "models": {"compatibility", "ops"},
    "datasets": set(),
    "analysis": {"ops"},
    "deploy": {"ops", "models"},
    "engine": {"ops", "models", "analysis", "files"},
    "apis": {"engine"},
    "cli": {"engine", "apis"},
    "registry": {"ops", "models", "datasets", "engine"},
    "__init__": {"compatibility", "version", "models", "registry"},
}


def imported(path: Path) -> Iterator[list[str]]:
    """What a file imports: each the parts of a name, as ["mmseg_dynet", "ops"]."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            yield from ([*base, alias.name] for alias in node.names)


def test_imports_point_one_way():
    wrong = []
    for path in MODULES:
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        allowed = ALLOWED.get(part, set()) | {part}
        for name in imported(path):
            outside = name[0] in {"projects", "tools", "tests"}
            back = name[0] == PACKAGE.name and name[1] not in allowed
            if outside or back:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {'.'.join(name)}")
    assert not wrong


def test_only_the_registry_registers_and_nothing_names_a_config():
    texts = {
        str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in MODULES
    }
    assert [name for name in texts if "register_module" in texts[name]] == [
        "registry.py"
    ]
    assert not [name for name in texts if re.search(r"configs/\w+/", texts[name])]


BLOCKED = """
import pkgutil, sys
from importlib import import_module

sys.modules |= dict.fromkeys(["mmcv", "mmengine", "mmseg"])
import mmseg_dynet
for name in ("ops", "analysis"):
    package = import_module(f"mmseg_dynet.{name}")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        print(import_module(module.name).__name__)
"""


def test_torch_alone_is_enough_for_the_op_and_its_analysis():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=PACKAGE.parent, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"mmseg_dynet.ops.dy_conv2d" in done.stdout.split()
