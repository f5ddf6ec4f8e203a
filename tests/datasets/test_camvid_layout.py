"""The converter of CamVid: layout, resumption, and what it refuses."""

import os

import numpy as np
import pytest
from PIL import Image

from mmseg_dynet.datasets.camvid_layout import convert_camvid


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)


def write_split(source, split, names):
    for i, name in enumerate(names):
        save(source / split / f"{name}.png", np.full((4, 6, 3), 40 * i))
        save(source / f"{split}annot" / f"{name}.png", np.arange(24).reshape(4, 6) % 12)


@pytest.fixture
def source(tmp_path):
    """The SegNet tutorial's layout, without its test split."""
    source = tmp_path / "CamVid"
    write_split(source, "train", ["a", "b"])
    write_split(source, "val", ["c"])
    return source


def files(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))


def test_layout(source, tmp_path):
    out = tmp_path / "out"
    assert convert_camvid(source, out) == {"train": 2, "val": 1}
    assert files(out) == [
        "ann_dir/train/a.png",
        "ann_dir/train/b.png",
        "ann_dir/val/c.png",
        "img_dir/train/a.png",
        "img_dir/train/b.png",
        "img_dir/val/c.png",
    ]
    for new, old in (("img_dir/train/b", "train/b"), ("ann_dir/val/c", "valannot/c")):
        path = out / f"{new}.png"
        assert not path.is_symlink()
        assert path.read_bytes() == (source / f"{old}.png").read_bytes()


def test_a_test_split_is_taken_along(source, tmp_path):
    write_split(source, "test", ["d"])
    assert convert_camvid(source, tmp_path / "out") == {"train": 2, "val": 1, "test": 1}
    assert (tmp_path / "out/ann_dir/test/d.png").is_file()


def test_symlinks(source, tmp_path, monkeypatch):
    """Also from a relative source: the links hold wherever they are read from."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    convert_camvid(source.relative_to(tmp_path), out, symlink=True)
    link = out / "ann_dir/train/a.png"
    assert os.readlink(link) == str(source / "trainannot/a.png")
    convert_camvid(source, out)
    assert not link.is_symlink(), "a second run may change its mind"
    assert link.read_bytes() == (source / "trainannot/a.png").read_bytes()


@pytest.mark.parametrize("symlink", [False, True])
def test_goes_on_where_it_was_interrupted(source, tmp_path, symlink):
    out = tmp_path / "out"
    convert_camvid(source, out, symlink)
    lost, cut, kept = (
        out / f"img_dir/{p}.png" for p in ("train/a", "train/b", "val/c")
    )
    kept_since = kept.lstat().st_ctime_ns
    lost.unlink()
    if symlink:
        cut.unlink()
        cut.symlink_to(tmp_path / "nowhere")
    else:
        cut.write_bytes(cut.read_bytes()[:20])
    convert_camvid(source, out, symlink)
    assert kept.lstat().st_ctime_ns == kept_since
    for path in (lost, cut):
        assert path.read_bytes() == (source / "train" / path.name).read_bytes()
    assert len(files(out)) == 6
    assert not list(out.rglob(".*")), "nothing half-written is left"


@pytest.mark.parametrize("folder", ["train", "trainannot", "val", "valannot"])
def test_a_missing_folder_is_named(source, tmp_path, folder):
    (source / folder).rename(source / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"CamVid.{folder} is missing"):
        convert_camvid(source, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "all names are checked before writing"


def test_half_a_test_split_is_an_error(source, tmp_path):
    save(source / "testannot/d.png", np.zeros((4, 6)))
    with pytest.raises(FileNotFoundError, match=r"CamVid.test is missing"):
        convert_camvid(source, tmp_path / "out")


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_an_unpaired_file_is_named(source, tmp_path, folder):
    (source / folder / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder} lacks 1 .* b\.png: get"):
        convert_camvid(source, tmp_path / "out")


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.zeros((4, 5)), r"a\.png is 6x4, but .*a\.png is 5x4"),
        (np.zeros((4, 6, 3)), r"a\.png has 3 channels: a label map has one"),
        (np.full((4, 6), 12), r"a\.png holds the labels \[12\]: allowed are 0 to 10"),
        (np.full((4, 6), 255), r"a\.png holds the labels \[255\]"),
    ],
    ids=["size", "RGB", "12", "255"],
)
def test_labels_that_do_not_fit_are_refused(source, tmp_path, labels, message):
    save(source / "trainannot/a.png", labels)
    with pytest.raises(ValueError, match=message):
        convert_camvid(source, tmp_path / "out")


@pytest.mark.parametrize("folder", ["train", "trainannot"])
@pytest.mark.parametrize("length", [0, 30, -1])
def test_a_cut_file_is_named(source, tmp_path, folder, length):
    path = source / folder / "a.png"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=rf"{folder}.a\.png is cut off .*get it again"):
        convert_camvid(source, tmp_path / "out")


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_a_file_damaged_inside_is_named(source, tmp_path, folder):
    path = source / folder / "a.png"
    damaged = bytearray(path.read_bytes())
    damaged[45] ^= 0xFF  # in the compressed pixels, which start at byte 41
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"{folder}.a\.png cannot be read .*again"):
        convert_camvid(source, tmp_path / "out")
