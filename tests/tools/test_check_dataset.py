"""check_dataset reports what does not fit, and refuses nothing that is read."""

from itertools import product

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

LOAD = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
CLASSES = ("road", "car", "sky")


@pytest.fixture
def root(tmp_path):
    """Three images of 4x6 pixels and their label maps, of all classes and 255."""
    labels = np.repeat([[0, 1, 2, 255]], 6, axis=0).T.astype(np.uint8)
    for name in "abc":
        for folder, array in (("img", np.zeros((4, 6, 3), np.uint8)), ("ann", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / f"{folder}/{name}.png")
    return tmp_path


def dataset(root, **changes):
    return dict(
        type="BaseSegDataset",
        data_root=str(root),
        img_suffix=".png",
        data_prefix=dict(img_path="img", seg_map_path="ann"),
        metainfo=dict(classes=CLASSES),
        pipeline=[LOAD[0], dict(type="Resize", scale=(12, 8)), LOAD[1]],
    ) | changes  # fmt: skip


@pytest.fixture
def check(root, run_tool, capsys):
    """Check data sets by their split; returns the exit status and what is printed."""

    def run(**datasets):
        loaders = {
            f"{split}_dataloader": dict(dataset=config, num_workers=0)
            for split, config in datasets.items()
        }
        Config(loaders).dump(root / "config.py")
        with pytest.raises(SystemExit) as done:
            run_tool("misc/check_dataset.py", root / "config.py")
        return done.value.code, capsys.readouterr().out

    return run


def test_sizes_and_shares(check, root):
    status, out = check(train=dataset(root), val=dataset(root))
    assert status == 0
    assert "train: 3 images" in out and "4x6 (3 images)" in out
    rows = [line.split() for line in out.splitlines() if "25.000" in line]
    assert [row[3] for row in rows] == ["road", "car", "sky", "(ignored)"]
    assert [row[7] for row in rows] == ["3"] * 4
    assert "val: the same as train" in out
    assert "ERROR" not in out and "WARNING" not in out


def test_bytes_after_the_end_are_fine(check, root):
    Image.new("RGB", (6, 4)).save(root / "img/a.jpg")
    (root / "img/a.jpg").rename(root / "img/a.png")
    for path in root.glob("*/*.png"):
        path.write_bytes(path.read_bytes() + b"trailer")
    assert check(train=dataset(root))[0] == 0


@pytest.mark.parametrize(
    ("file", "content"),
    [*product(["img/b.png", "ann/b.png"], [b"", b"no picture"]), ("ann/b.png", None)],
)
def test_unreadable_files(check, root, file, content):
    (root / file).unlink() if content is None else (root / file).write_bytes(content)
    status, out = check(train=dataset(root))
    assert status == 1
    assert f"ERROR: {root / file} cannot be read" in out.replace("\n", " ")


def test_sizes_that_differ(check, root):
    Image.new("L", (6, 5)).save(root / "ann/a.png")
    Image.new("RGB", (6, 4)).save(root / "ann/b.png")
    status, out = check(train=dataset(root))
    assert status == 1
    assert f"ERROR: {root}/ann/a.png has the shape (5, 6), its image (4, 6)" in out
    assert f"ERROR: {root}/ann/b.png has the shape (4, 6, 3), its image (4, 6)" in out


def test_labels_outside_the_classes(check, root):
    status, out = check(train=dataset(root, metainfo=dict(classes=CLASSES[:2])))
    assert status == 1
    assert f"label 2 in 3 label maps, e.g. {root}/ann/a.png: classes are 0 to 1" in out


@pytest.mark.parametrize("number", (1, 2))
def test_masks_of_0_and_255(check, root, number):
    for name in "abc":
        mask = np.array([[0, 0, 255], [0, 255, 255]], dtype=np.uint8)
        Image.fromarray(mask.repeat(2, 0).repeat(2, 1)).save(root / f"ann/{name}.png")
    status, out = check(train=dataset(root, metainfo=dict(classes=CLASSES[:number])))
    assert status == 1
    assert "ERROR: the label maps hold [0, 255], so that at most one class" in out
    assert "write the 2 classes as 0 to 1" in out


def test_a_class_that_never_occurs_is_no_error(check, root):
    status, out = check(train=dataset(root, metainfo=dict(classes=(*CLASSES, "bus"))))
    assert status == 0
    assert "WARNING: never occur: bus" in out


def test_labels_are_those_of_the_configs_loader(check, root):
    """reduce_zero_label makes 0 the ignored value; it is not refused."""
    config = dataset(root, metainfo=dict(classes=CLASSES[:2]), reduce_zero_label=True)
    status, out = check(train=config)
    assert status == 0
    assert "50.000" in next(line for line in out.splitlines() if "(ignored)" in line)


def test_wrappers_and_images_without_labels(check, root):
    other = dataset(root, indices=1)
    concat = dict(type="ConcatDataset", datasets=[dataset(root), other])
    unlabelled = dataset(root, data_prefix=dict(img_path="img"), test_mode=True)
    status, out = check(
        train=dict(type="RepeatDataset", dataset=concat, times=2), test=unlabelled
    )
    assert status == 0
    assert "train 1/2: 3 images" in out and "train 2/2: 1 images" in out
    assert "test: 3 images" in out and out.count("(ignored)") == 2


def test_missing_and_empty_folders(check, root):
    (root / "empty").mkdir()
    prefix = dict(seg_map_path="ann")
    status, out = check(
        train=dataset(root, data_prefix=dict(prefix, img_path="nowhere")),
        val=dataset(root, data_prefix=dict(prefix, img_path="empty")),
    )
    assert status == 1
    assert f"No such file or directory: '{root}/nowhere'" in out
    assert out.count("ERROR: cannot be listed, or is empty") == 2
