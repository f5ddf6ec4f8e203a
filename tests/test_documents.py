"""What the documents show works: code runs, configs build, commands are accepted.

The blocks of a page run in one namespace, in their order. What a block takes for
granted, such as a trained model, is set up in a comment that readers do not see::

    <!-- python
    model = ...
    -->
"""

import ast
import os
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from packaging.version import Version

from mmseg_dynet.apis import build_model
from mmseg_dynet.ops import DyConv2d

ROOT = Path(__file__).parents[1]
# Export needs a newer torch than the package: where it is old, the tool does not load.
OLD_TORCH = Version(torch.__version__) < Version("2.6")
NOT_LOADED = {"tools/deployment/export.py"} if OLD_TORCH else set()
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$|^<!-- (python)\n(.*?)^-->$", re.M | re.S)
NOT_RUN = {"text", "{toctree}", "{eval-rst}"}


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its code, and the line that it begins behind."""

    kind: str
    code: str
    line: int

    @property
    def is_config(self) -> bool:
        return self.code.startswith("_base_ = ")


def blocks(document: str) -> Iterator[Block]:
    text = DOCUMENTS[document].read_text("utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(match[1] or match[3] or "", match[2] or match[4], line)


def documents_with(kind: str) -> list[str]:
    return [d for d in DOCUMENTS if any(block.kind == kind for block in blocks(d))]


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """Go to a folder in which the documents' paths lead to the files of the project."""
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("model.onnx", "IMAGE"):  # which a tool looks for as it is started
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_are_of_kinds_that_are_checked(document):
    kinds = {block.kind for block in blocks(document)}
    assert kinds <= {"python", "bash"} | NOT_RUN


@pytest.mark.parametrize("document", documents_with("python"))
def test_python_runs(document, checkout):
    torch.manual_seed(0)
    namespace = {"__name__": "document"}
    for block in blocks(document):
        if block.is_config:
            build(block, checkout)
        elif block.kind == "python":
            lines = "\n" * block.line + block.code  # for the traceback
            exec(compile(lines, DOCUMENTS[document], "exec"), namespace)


def build(block: Block, folder: Path) -> None:
    """Build a config's model and run it, and find in the config what the block says."""
    base = re.match(r'_base_ = "\./(.+)"\n', block.code)[1]
    (path,) = (ROOT / "configs").glob(f"*/{base}")
    config = folder / "config.py"
    config.write_text(block.code.replace(f"./{base}", str(path)))
    cfg = Config.fromfile(config)
    said = {}
    exec(block.code, said)
    assert_within(said["model"], cfg.model)
    model = build_model(cfg)
    assert any(isinstance(module, DyConv2d) for module in model.backbone.modules())
    features = model.extract_feat(torch.randn(1, 3, 64, 64))
    heads = [head for name, head in model.named_children() if name.endswith("_head")]
    assert [head(features).shape for head in heads] == [(1, 19, 8, 8)] * 2


def assert_within(part: dict, whole: dict) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            assert_within(value, whole[key])
        elif key != "_delete_":
            assert whole[key] == value


@pytest.mark.parametrize("document", documents_with("bash"))
def test_commands_are_accepted(document, checkout, monkeypatch):
    script = "".join(b.code for b in blocks(document) if b.kind == "bash")
    commands = list(commands_of(script))
    assert commands
    for words in commands:
        accept(words, monkeypatch)


def commands_of(code: str) -> Iterator[list[str]]:
    """Split a script into commands; variables are replaced as a shell does."""
    variables = {}
    for line in code.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$(\w+)", lambda match: variables[match[1]], line)
        line = re.sub(r"\$\(basename (\S+) \.py\)", lambda m: Path(m[1]).stem, line)
        words = shlex.split(line, comments=True)
        assignments = [word for word in words if re.match(r"[A-Z_]+=", word)]
        if words and words == assignments:
            variables.update(word.split("=", 1) for word in words)
        elif words:
            yield words


def accept(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail unless a command could be run as it stands."""
    environment = []
    while re.match(r"[A-Z_]+=", words[0]):
        environment.append(words[0].split("=")[0])
        words = words[1:]
    for name in environment:
        assert f"${{{name}:-" in (ROOT / words[0]).read_text("utf-8")
    match words:
        case ["python", tool, *arguments]:
            parse(tool, arguments, monkeypatch)
        case ["srun" | "mpirun", *options, "python", _, _, "--launcher", _]:
            accept(words[1 + len(options) :], monkeypatch)
        case ["bash", *script]:
            accept(script, monkeypatch)
        case ["tools/dist_train.sh", config, gpus, *more]:
            assert os.access(ROOT / words[0], os.X_OK)
            assert gpus.isdigit()
            parse("tools/train.py", [config, "--launcher", "pytorch", *more],
                  monkeypatch)  # fmt: skip
        case ["tools/dist_test.sh", config, checkpoint, gpus, *more]:
            assert os.access(ROOT / words[0], os.X_OK)
            assert gpus.isdigit()
            arguments = [config, checkpoint, "--launcher", "pytorch", *more]
            parse("tools/test.py", arguments, monkeypatch)
        case ["benchmarks/run.sh"]:
            assert os.access(ROOT / words[0], os.X_OK)
        case ["make", target, *settings]:
            assert re.search(rf"^{target}:", MAKEFILE, re.M)
            for setting in settings:
                assert f"$({setting.split('=')[0]})" in MAKEFILE
        case ["pip", "install", package, "-c", constraints]:
            wanted = re.fullmatch(r"\.\[(.+)\]", package)[1].split(",")
            assert set(wanted) <= extras()
            assert (ROOT / constraints).is_file()
        case ["source", activate]:
            assert activate.removesuffix("/bin/activate") in MAKEFILE
        case _:
            pytest.fail(f"no check for {shlex.join(words)}")


def parse(tool: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tool parse arguments and override its config, without running it."""
    path = ROOT / tool
    missing = [
        a for a in arguments if a.startswith("configs/") and not Path(a).exists()
    ]
    assert missing == []
    if tool in NOT_LOADED:
        return
    monkeypatch.setattr(sys, "argv", [tool, *arguments])
    with monkeypatch.context() as context:
        context.syspath_prepend(path.parent)
        names = runpy.run_path(str(path), run_name="document")
    if "parse_args" not in names:
        assert arguments == []
        return
    parsed = names["parse_args"]()  # exits where it refuses
    if str(getattr(parsed, "config", "")).startswith("configs/"):
        cfg = Config.fromfile(parsed.config, import_custom_modules=False)
        cfg.merge_from_dict(parsed.cfg_options or {})


def extras() -> set[str]:
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text("utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "extras_require":
            return {ast.literal_eval(key) for key in node.value.keys}
    raise AssertionError("setup.py has no extras_require")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = DOCUMENTS[document]
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8"))
    local = [link for link in links if "//" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []
    if document == "README.md":
        assert len(local) > 10


def texts_of(picture: Path) -> list[str]:
    """What an SVG says, in the order in which it is drawn."""
    svg = picture.read_text("utf-8")
    return [
        re.sub(r"<.*?>|\s", "", text)
        for text in re.findall(r"<text.*?</text>", svg, re.S)
    ]


def test_pictures_of_the_concepts_are_up_to_date(tmp_path, monkeypatch):
    script = ROOT / "docs/draw_concepts.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--out", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    drawn = sorted(tmp_path.iterdir())
    page = (ROOT / "docs/concepts.md").read_text("utf-8")
    assert [p.name for p in drawn] == sorted(re.findall(r"\(images/(.+\.svg)\)", page))
    for picture in drawn:
        assert texts_of(picture) == texts_of(ROOT / "docs/images" / picture.name)
