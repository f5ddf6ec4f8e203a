"""The converter of Cityscapes: values, resumption, what it says of a broken tree."""

import json
import os
import shutil

import numpy as np
import pytest
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from mmseg.datasets import CityscapesDataset
from PIL import Image

from mmseg_dynet.datasets import cityscapes_labels
from mmseg_dynet.datasets.cityscapes_labels import convert_cityscapes

STEM = "aachen_000000_000019"


def write_annotated_image(root, split, stem=STEM, objects=()):
    """Write a 4x6 image and its polygons, as in the archives of Cityscapes."""
    city = stem.split("_")[0]
    image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
    polygons = root / "gtFine" / split / city / f"{stem}_gtFine_polygons.json"
    for path in (image, polygons):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(image)
    polygons.write_text(
        json.dumps(dict(imgHeight=4, imgWidth=6, objects=list(objects)))
    )
    return image, polygons


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def labels_of(polygons):
    return polygons.with_name(
        polygons.name.replace("polygons.json", "labelTrainIds.png")
    )


@pytest.fixture
def tree(tmp_path):
    """Two training images and one for validation, 4x6 pixels each."""
    road = dict(label="road", polygon=[[0, 2], [5, 2], [5, 3], [0, 3]])
    write_annotated_image(tmp_path, "train", objects=[road])
    write_annotated_image(tmp_path, "train", "bonn_000001_000019")
    write_annotated_image(tmp_path, "val", "ulm_000000_000019")
    return tmp_path


def test_values_by_hand(tmp_path):
    """Painter's order, an ignored class, a group, and a plate that is no label."""
    objects = [
        dict(label="sky", polygon=[[0, 0], [5, 0], [5, 1], [0, 1]]),
        dict(label="road", polygon=[[0, 2], [5, 2], [5, 3], [0, 3]]),
        dict(label="cargroup", polygon=[[1, 1], [3, 1], [3, 2], [1, 2]]),
        dict(label="license plate", polygon=[[2, 2], [2, 2], [2, 2]]),
        dict(label="static", polygon=[[5, 0], [5, 3], [5, 3]]),
    ]
    _, polygons = write_annotated_image(tmp_path, "train", objects=objects)
    assert convert_cityscapes(tmp_path, ["train"]) == 1
    expected = [
        [10, 10, 10, 10, 10, 255],
        [10, 13, 13, 13, 10, 255],
        [0, 13, 13, 13, 0, 255],
        [0, 0, 0, 0, 0, 255],
    ]
    np.testing.assert_array_equal(read(labels_of(polygons)), expected)


def test_equals_cityscapesscripts_and_is_read_by_mmseg(synthetic_streets, tmp_path):
    paths = sorted(synthetic_streets.glob("gtFine/*/*/*_polygons.json"))
    assert len(paths) == 12
    for path in paths:
        json2labelImg(str(path), str(tmp_path / "expected.png"), "trainIds")
        np.testing.assert_array_equal(
            read(labels_of(path)), read(tmp_path / "expected.png")
        )
    dataset = CityscapesDataset(
        data_root=str(synthetic_streets),
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")],
    )
    assert len(dataset) == 8
    sample = dataset[0]
    assert sample["img"].shape == (128, 256, 3)
    assert sample["gt_seg_map"].shape == (128, 256)
    np.testing.assert_array_equal(sample["gt_seg_map"], read(sample["seg_map_path"]))


def test_lists_name_the_images_for_ann_file(tree):
    convert_cityscapes(tree)
    names = ["aachen/aachen_000000_000019", "bonn/bonn_000001_000019"]
    assert (tree / "train.txt").read_text().split("\n") == [*names, ""]
    dataset = CityscapesDataset(
        ann_file="train.txt",
        data_root=str(tree),
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")],
    )
    assert len(dataset) == 2
    assert dataset[0]["gt_seg_map"].tolist() == [[255] * 6] * 2 + [[0] * 6] * 2


def test_goes_on_where_it_was_interrupted(tree):
    assert convert_cityscapes(tree) == 3
    first, second, third = sorted(tree.glob("gtFine/*/*/*_labelTrainIds.png"))
    whole = {path: path.read_bytes() for path in (first, second, third)}
    written = third.stat().st_mtime_ns
    assert convert_cityscapes(tree) == 0

    first.unlink()
    second.write_bytes(whole[second][:-1])
    assert convert_cityscapes(tree) == 2
    assert {path: path.read_bytes() for path in whole} == whole
    assert third.stat().st_mtime_ns == written


def test_polygons_that_changed_are_drawn_again(tree):
    convert_cityscapes(tree)
    polygons = next(tree.glob("gtFine/val/*/*_polygons.json"))
    sky = dict(label="sky", polygon=[[0, 0], [5, 0], [5, 3], [0, 3]])
    polygons.write_text(json.dumps(dict(imgHeight=4, imgWidth=6, objects=[sky])))
    later = labels_of(polygons).stat().st_mtime_ns + 1
    os.utime(polygons, ns=(later, later))
    assert convert_cityscapes(tree) == 1
    assert np.unique(read(labels_of(polygons))).tolist() == [10]


def test_an_interrupted_drawing_leaves_nothing(tree, monkeypatch):
    def draw_half(polygons, labels, encoding):
        with open(labels, "wb") as file:
            file.write(b"\x89PNG")
        raise KeyboardInterrupt

    before = sorted(tree.rglob("*"))
    monkeypatch.setattr(cityscapes_labels, "json2labelImg", draw_half)
    with pytest.raises(KeyboardInterrupt):
        convert_cityscapes(tree)
    assert sorted(tree.rglob("*")) == before


def test_processes_draw_the_same_and_report_errors(tree):
    convert_cityscapes(tree)
    maps = sorted(tree.glob("gtFine/*/*/*_labelTrainIds.png"))
    expected = [path.read_bytes() for path in maps]
    for path in maps:
        path.unlink()
    assert convert_cityscapes(tree, nproc=2) == 3
    assert [path.read_bytes() for path in maps] == expected

    write_annotated_image(tree, "val", "ulm_000000_000019", [dict(label="unicorn")])
    with pytest.raises(ValueError, match=r"ulm_000000_000019_gtFine_polygons\.json"):
        convert_cityscapes(tree, nproc=2)


@pytest.mark.parametrize(
    "missing, message",
    [
        ("", r" is missing: get leftImg8bit_trainvaltest\.zip"),
        ("leftImg8bit", r"leftImg8bit is missing: get leftImg8bit_trainvaltest\.zip"),
        ("gtFine", r"gtFine is missing: get gtFine_trainvaltest\.zip"),
        ("gtFine/val", r"gtFine.val is missing: get gtFine_trainvaltest\.zip"),
        ("leftImg8bit/val/ulm", r"val holds no \*_leftImg8bit\.png: get leftImg8bit_"),
    ],
)
def test_a_missing_folder_is_named_with_its_archive(tree, missing, message):
    shutil.rmtree(tree / missing)
    with pytest.raises(FileNotFoundError, match=message):
        convert_cityscapes(tree)
    assert not list(tree.rglob("*_labelTrainIds.png")), "all is checked before drawing"


@pytest.mark.parametrize(
    "missing, message",
    [
        (
            "gtFine/train/bonn/bonn_000001_000019_gtFine_polygons.json",
            r"train: images without a .*\(bonn/bonn_000001_000019\): unpack gtFine_",
        ),
        (
            "leftImg8bit/train/bonn/bonn_000001_000019_leftImg8bit.png",
            r"train: polygons without a .*\(bonn/bonn_000001_000019\): unpack leftImg",
        ),
    ],
)
def test_an_unpaired_file_is_named(tree, missing, message):
    (tree / missing).unlink()
    with pytest.raises(FileNotFoundError, match="1 " + message):
        convert_cityscapes(tree)


def test_a_cut_image_is_named(tree):
    image = next(tree.glob("leftImg8bit/val/*/*.png"))
    image.write_bytes(image.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"ulm_.*_leftImg8bit\.png is cut off"):
        convert_cityscapes(tree)


@pytest.mark.parametrize(
    "content",
    [
        '{"imgHeight": 4, "imgWidth": 6, "objects": [{"label": "ro',
        "",
        '{"imgHeight": 4}',
        "[]",
        '{"imgHeight": 4, "imgWidth": 6, "objects": [{"label": "x", "polygon": []}]}',
    ],
    ids=["cut off", "empty", "no objects", "a list", "unknown label"],
)
def test_broken_polygons_are_named(tree, content):
    polygons = next(tree.glob("gtFine/val/*/*_polygons.json"))
    polygons.write_text(content)
    message = r"ulm_000000_000019_gtFine_polygons\.json is not .*unpack gtFine_trainval"
    with pytest.raises(ValueError, match=message):
        convert_cityscapes(tree)
    assert not labels_of(polygons).exists()
    assert len(list(tree.rglob("*_labelTrainIds.png"))) == 2, "the others are kept"


def test_nproc_has_to_be_positive(tree):
    with pytest.raises(ValueError, match="nproc=0"):
        convert_cityscapes(tree, nproc=0)
