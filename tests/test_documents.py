"""What the documents show works: Python runs, configs build, files and targets exist.

The blocks of a page share a namespace; ``invisible-code-block`` comments prepare it.
"""

import re
from pathlib import Path

import mmseg
import pytest
import torch
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.ops import DyConv2d

ROOT = Path(__file__).parents[1]
GLOBS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "*/*/README.md")
PAGES = [path for glob in GLOBS for path in sorted(ROOT.glob(glob))]
WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text("utf-8")]
FOLDERS = "benchmarks|configs|constraints|docs|mmseg_dynet|projects|tests|tools"


def name_of(page: Path) -> str:
    return page.parent.name + page.name


def evaluate(example: Example) -> None:
    """Run a block, or build the model of a config and run that."""
    if "_base_ =" not in example.parsed:
        return PythonEvaluator()(example)
    # As if it lay beside the configs of the package, or at the root of the checkout.
    text = example.parsed.replace('"./', '"configs/dynet/').replace('"../../', '"')
    Path("config.py").write_text(text)
    model = build_model(load_config("config.py")).eval()
    assert any(isinstance(module, DyConv2d) for module in model.modules())
    assert model(torch.rand(1, 3, 64, 64)).isfinite().all()


@pytest.mark.usefixtures("forgotten_runs")
@pytest.mark.filterwarnings("ignore:The draw is False:UserWarning:mmseg")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_runs(page, tmp_path, monkeypatch):
    for name in ("configs", "projects", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "mmsegmentation").symlink_to(Path(mmseg.__path__[0], ".mim"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(0)
    for example in Sybil([CodeBlockParser("python", evaluate)]).parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_targets_exist(page):
    text = page.read_text("utf-8")
    links = re.findall(r"\]\((?!https:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    files = re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"[\n`]make ([a-z-]+) *(?=[\n`#])", text)
    assert [name for name in targets if f"\n{name}:" not in makefile] == []
