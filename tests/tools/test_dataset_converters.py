"""The converters' command lines: arguments, messages and exit status."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).parents[2] / "tools" / "dataset_converters"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a tool as a script; returns what it printed."""

    def run_tool(name, *arguments):
        argv = [str(TOOLS / name), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", argv)
        runpy.run_path(argv[0], run_name="__main__")
        return capsys.readouterr().out

    return run_tool


def test_synthetic_streets_then_cityscapes(run, tmp_path):
    out = tmp_path / "streets"
    arguments = ["--num-train", 4, "--num-val", 5, "--height", 64, "--width", 128]
    printed = run("synthetic_streets.py", "--out", out, *arguments, "--seed", 3)
    assert "train: 4, val: 5" in printed
    images = sorted(out.glob("leftImg8bit/*/*/*_leftImg8bit.png"))
    assert len(images) == 9
    with Image.open(images[0]) as image:
        assert image.size == (128, 64)

    assert "0 label maps drawn; train, val complete" in run("cityscapes.py", out)
    maps = sorted(out.glob("gtFine/*/*/*_labelTrainIds.png"))
    expected = [path.read_bytes() for path in maps]
    for path in maps:
        path.unlink()
    assert "5 label maps drawn" in run("cityscapes.py", out, "--splits", "val")
    assert "4 label maps drawn" in run("cityscapes.py", out)
    assert [path.read_bytes() for path in maps] == expected


def test_camvid(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("train", "trainannot", "val", "valannot"):
        path = tmp_path / "CamVid" / folder / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((4, 6), 11, dtype=np.uint8)).save(path)
    assert "train: 1, val: 1" in run("camvid.py", "CamVid")
    assert (tmp_path / "data/camvid/img_dir/train/a.png").is_file()
    run("camvid.py", "CamVid", "--out", "linked", "--symlink")
    assert (tmp_path / "linked/ann_dir/val/a.png").is_symlink()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["cityscapes.py", "nowhere"], "error: nowhere is missing: get leftImg8bit_"),
        (["cityscapes.py", ".", "--nproc", "0"], "error: nproc=0"),
        (["camvid.py", "nowhere"], "error: nowhere.train is missing"),
        (["synthetic_streets.py", "--num-val", "1"], "error: num_val=1"),
        (
            ["synthetic_streets.py", "--out", "."],
            r"error: \. exists and is not the set",
        ),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SystemExit, match=message):
        run(*arguments)
