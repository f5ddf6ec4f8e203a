"""From the work dirs of the CamVid study to its figures: what is run, and filed where.

The tools are those of tools/camvid; what they would start is replaced by a record.
"""

import os
import runpy
import subprocess
from pathlib import Path

import pytest
from study.outcome import Outcome

ROOT = Path(__file__).parents[2]
MAIN = {
    "ResNet18": "r18-d16",
    "Dy-ResNet18": "dy-r18-d16",
    "Fix-ResNet18": "fix-r18-d16",
}
NAMES = MAIN | {"Dy-ResNet50": "dy-r50-d16"}


@pytest.fixture
def load(monkeypatch):
    """Load a tool of the study: what it defines, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools/camvid"))
    return lambda name: runpy.run_path(str(ROOT / f"tools/camvid/{name}.py"))


def train(work_dirs: Path, arm: str, seed: int = 0, precision: str = "float32") -> Path:
    """Leave what a training leaves; return its checkpoint."""
    folder = work_dirs / f"{NAMES[arm]}-seed{seed}"
    config = f"configs/dynet/{NAMES[arm]}_fcn_1xb4-2k_camvid-240x320.py"
    Outcome(
        arm, config, seed, "abc", 50.0 + seed, {"road": 50.0}, [(7, 50.0)], 3.0,
        precision, "machine", "command",
    ).write(folder / "outcome.json")  # fmt: skip
    (folder / "iter_7.pth").touch()
    return folder / "iter_7.pth"


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The tools that would run, which leave the JSON that they are told to write."""
    monkeypatch.chdir(tmp_path)
    commands = []

    def run(command: list, check: bool) -> None:
        assert check
        words = [str(word) for word in command[3:]]
        commands.append(words)
        if "--json" in words:
            json = Path(words[words.index("--json") + 1])
            json.parent.mkdir(parents=True, exist_ok=True)
            json.touch()

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def results_of(name: str) -> Path:
    return Path(f"benchmarks/camvid/float32/modes/{name}-seed0.json")


def analyze(load, monkeypatch, work_dirs: Path) -> None:
    tool = load("analyze")
    monkeypatch.setattr("sys.argv", ["analyze.py", "--work-dirs", str(work_dirs)])
    tool["main"]()


def test_each_network_is_analysed_once(load, monkeypatch, started, tmp_path):
    work_dirs = tmp_path / "work"
    checkpoints = {arm: train(work_dirs, arm) for arm in NAMES}
    train(work_dirs, "Dy-ResNet18", seed=1)
    analyze(load, monkeypatch, work_dirs)
    tools = [Path(words[0]).stem for words in started]
    # Three networks in four kinds of windows each; the others in their own.
    assert tools.count("inference_modes") == 3 * 4 + 2
    assert tools.count("coefficients") == tools.count("correlation") == 1
    results = tmp_path / "benchmarks/camvid/float32"
    assert len([*results.glob("modes/*.json")]) == 5
    (kept,) = (words for words in started if str(results_of("dy-r18-d16")) in words)
    assert kept[-5:] == ["--reuse", "2", "5", "10", "101"]
    (plain,) = (words for words in started if str(results_of("dy-r50-d16")) in words)
    assert plain[-1] == "--reuse"
    assert (results / "windows/r18-d16-seed0-240x480.json").is_file()
    (correlation,) = (w for w in started if Path(w[0]).stem == "correlation")
    assert [w for w in correlation if w.endswith(".pth")] == [
        str(work_dirs / f"{name}-seed0/iter_7.pth")
        for name in ("dy-r18-d16", "fix-r18-d16", "r18-d16")
    ]

    # Again: only the picture, which has no figures.
    started.clear()
    analyze(load, monkeypatch, work_dirs)
    assert [Path(words[0]).stem for words in started] == ["compare"]

    # The control is trained anew: whatever it is a part of is analysed anew.
    started.clear()
    control = checkpoints["Fix-ResNet18"]
    later = (results / "correlation.json").stat().st_mtime + 10
    os.utime(control, (later, later))
    analyze(load, monkeypatch, work_dirs)
    assert all(str(control) in words for words in started)
    assert [Path(words[0]).stem for words in started] == [
        *["inference_modes"] * 4, "correlation", "compare"
    ]  # fmt: skip


def test_what_is_not_trained_is_left_out(load, monkeypatch, started, tmp_path):
    train(tmp_path / "work", "Dy-ResNet18", seed=1)
    (train(tmp_path / "work", "ResNet18")).unlink()  # its weights were thrown away
    analyze(load, monkeypatch, tmp_path / "work")
    (words,) = started
    assert Path(words[0]).stem == "inference_modes" and "--crop" not in words


def test_outcomes_are_filed_by_precision(load, tmp_path):
    report = load("report")
    train(tmp_path / "a", "Dy-ResNet18", seed=1, precision="bfloat16")
    train(tmp_path / "b", "Dy-ResNet18", seed=1)
    report["gather"].__globals__["ROOT"] = tmp_path
    for folder in "ab":
        report["gather"](tmp_path / folder)
    for precision in ("bfloat16", "float32"):
        path = tmp_path / f"benchmarks/camvid/{precision}/dy-r18-d16-seed1.json"
        assert Outcome.read(path).precision == precision
        outcomes = report["Results"].read(precision).outcomes
        assert [o.val_mIoU for o in outcomes["Dy-ResNet18"]] == [51.0]


def test_seeds_that_were_not_analysed_are_named(load, tmp_path):
    """Or the mean over two seeds would stand beside the mean over one."""
    report = load("report")
    report["gather"].__globals__["ROOT"] = tmp_path
    for seed in (0, 1):
        train(tmp_path / "work", "Dy-ResNet18", seed)
    report["gather"](tmp_path / "work")
    assert report["Results"].read("float32").modes == {}
    modes = tmp_path / "benchmarks/camvid/float32/modes"
    modes.mkdir()
    (modes / "dy-r18-d16-seed0.json").write_text('{"seed": 0}')
    with pytest.raises(ValueError, match=r"dy-r18-d16-seed1\.json: run .*analyze\.py"):
        report["Results"].read("float32")
    (modes / "dy-r18-d16-seed1.json").write_text('{"seed": 1}')
    found = report["Results"].read("float32").modes
    assert [m["seed"] for m in found["Dy-ResNet18"]] == [0, 1]
