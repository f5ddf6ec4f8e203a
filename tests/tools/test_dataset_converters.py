"""The converters write what the configs read, and name the files that do not fit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).parents[2] / "tools" / "dataset_converters"
ROAD = dict(label="road", polygon=[[0, 2], [5, 2], [5, 3], [0, 3]])


@pytest.fixture
def run(run_tool):
    """Run a converter as a script; returns what it printed."""
    return lambda name, *arguments: run_tool(TOOLS / name, *arguments)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)


def read(path):
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture
def camvid(tmp_path):
    """Two training images and one for validation in the SegNet tutorial's layout."""
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        labels = np.arange(24).reshape(4, 6) % 12
        save(tmp_path / f"CamVid/{split}/{name}.png", np.full((4, 6, 3), ord(name)))
        save(tmp_path / f"CamVid/{split}annot/{name}.png", labels)
    return tmp_path / "CamVid"


def test_camvid(run, camvid, tmp_path):
    out = tmp_path / "out"
    assert "train: 2, val: 1" in run("camvid.py", camvid, "--out", out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.png")) == [
        "ann_dir/train/a.png", "ann_dir/train/b.png", "ann_dir/val/c.png",
        "img_dir/train/a.png", "img_dir/train/b.png", "img_dir/val/c.png",
    ]  # fmt: skip
    assert (read(out / "img_dir/train/b.png") == ord("b")).all()
    rows = [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 255]]
    assert read(out / "ann_dir/val/c.png").tolist() == 2 * rows


def test_camvid_links_images_and_takes_a_test_split(run, camvid, tmp_path):
    out = tmp_path / "out"
    save(camvid / "test/d.png", np.zeros((4, 6, 3)))
    save(camvid / "testannot/d.png", np.full((4, 6), 11))
    for _ in range(2):
        run("camvid.py", camvid, "--out", out, "--symlink")
    image = out / "img_dir/test/d.png"
    assert image.is_symlink() and image.resolve() == camvid / "test/d.png"
    assert (read(out / "ann_dir/test/d.png") == 255).all()
    run("camvid.py", camvid, "--out", out)
    assert not image.is_symlink()
    assert (read(camvid / "testannot/d.png") == 11).all(), "the source is not changed"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 5)), r"trainannot/b\.png has the shape \(4, 5\)"),
        (np.zeros((4, 6, 3)), r"trainannot/b\.png has the shape \(4, 6, 3\)"),
        (np.full((4, 6), 12), r"trainannot/b\.png holds \[12\]: labels are 0 to 10"),
        (None, r"only one of .*train and .*trainannot has b\.png"),
    ],
    ids=["size", "RGB", "12", "missing"],
)
def test_camvid_names_the_label_map_that_does_not_fit(
    run, camvid, tmp_path, labels, message
):
    path = camvid / "trainannot/b.png"
    path.unlink() if labels is None else save(path, labels)
    with pytest.raises(SystemExit, match=message):
        run("camvid.py", camvid, "--out", tmp_path / "out")


def test_camvid_names_a_missing_folder(run, tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere.train is missing or holds no PNG"):
        run("camvid.py", tmp_path / "nowhere")


def write_polygons(root, split, city, objects=(ROAD,)):
    path = root / f"gtFine/{split}/{city}/{city}_000000_000019_gtFine_polygons.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(imgHeight=4, imgWidth=6, objects=list(objects))))
    return path


@pytest.fixture
def cityscapes(tmp_path):
    """Two training images of 4x6 pixels and one for validation: polygons only."""
    for split, city in (("train", "aachen"), ("train", "bonn"), ("val", "ulm")):
        write_polygons(tmp_path, split, city)
    return tmp_path


def label_maps(root):
    return sorted(root.glob("gtFine/*/*/*_labelTrainIds.png"))


def test_cityscapes_values_by_hand(run, tmp_path):
    """Painter's order, an ignored class, a group, and a plate that is no label."""
    objects = [
        dict(label="sky", polygon=[[0, 0], [5, 0], [5, 1], [0, 1]]),
        ROAD,
        dict(label="cargroup", polygon=[[1, 1], [3, 1], [3, 2], [1, 2]]),
        dict(label="license plate", polygon=[[2, 2], [2, 2], [2, 2]]),
        dict(label="static", polygon=[[5, 0], [5, 3], [5, 3]]),
    ]
    write_polygons(tmp_path, "train", "aachen", objects)
    run("cityscapes.py", tmp_path, "--splits", "train")
    assert read(label_maps(tmp_path)[0]).tolist() == [
        [10, 10, 10, 10, 10, 255],
        [10, 13, 13, 13, 10, 255],
        [0, 13, 13, 13, 0, 255],
        [0, 0, 0, 0, 0, 255],
    ]


def test_cityscapes_draws_what_is_missing_or_old(run, cityscapes):
    assert "3 label maps drawn; train, val complete" in run("cityscapes.py", cityscapes)
    assert (cityscapes / "train.txt").read_text().split() == [
        "aachen/aachen_000000_000019",
        "bonn/bonn_000000_000019",
    ]
    assert "0 label maps drawn" in run("cityscapes.py", cityscapes)
    first, second, _ = label_maps(cityscapes)
    first.unlink()
    polygons = write_polygons(cityscapes, "train", "bonn", [])
    later = second.stat().st_mtime_ns + 1
    os.utime(polygons, ns=(later, later))
    assert "2 label maps drawn" in run("cityscapes.py", cityscapes)
    assert (read(second) == 255).all()


def test_cityscapes_in_processes(cityscapes):
    """In a process of its own, since workers import the tool as ``__main__``."""
    command = [sys.executable, TOOLS / "cityscapes.py", cityscapes, "--nproc", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "3 label maps drawn" in done.stdout
    assert [read(path)[3, 0] for path in label_maps(cityscapes)] == [0, 0, 0]
    write_polygons(cityscapes, "train", "bonn", [dict(label="unicorn", polygon=[])])
    label_maps(cityscapes)[1].unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bonn_000000_000019_gtFine_polygons.json is not a Citys" in done.stderr


@pytest.mark.parametrize(
    "content", ["", '{"imgHeight": 4}', "[]", '{"imgHeight": 4, "']
)
def test_cityscapes_names_broken_polygons(run, cityscapes, content):
    path = cityscapes / "gtFine/val/ulm/ulm_000000_000019_gtFine_polygons.json"
    path.write_text(content)
    with pytest.raises(
        SystemExit, match=rf"{path.name} is not a Cityscapes annotation"
    ):
        run("cityscapes.py", cityscapes)
    assert len(label_maps(cityscapes)) == 2, "the others are kept"


def test_cityscapes_names_a_missing_folder(run, cityscapes):
    with pytest.raises(SystemExit, match=r"gtFine.test is missing .* unpack gtFine_"):
        run("cityscapes.py", cityscapes, "--splits", "train", "test")
