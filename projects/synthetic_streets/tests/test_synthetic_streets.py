"""The generator: layout, classes, agreement of image and labels, determinism."""

import json
from threading import Thread

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from PIL import Image
from streets import (
    generate_synthetic_streets,
    writing,
)
from streets.geometry import Camera, convex_hull
from streets.painting import visible_shapes
from streets.shapes import Shape

SMALL = dict(num_train=4, num_val=4, height=64, width=128)
STEM = "cedernheim_000002_000019"


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def load(root, split):
    """All images (N, H, W, 3) and train ids (N, H, W) of a split."""
    paths = sorted(root.glob(f"gtFine/{split}/*/*_labelTrainIds.png"))
    images = [
        root / "leftImg8bit" / split / path.parent.name
        / path.name.replace("_gtFine_labelTrainIds", "_leftImg8bit")
        for path in paths
    ]  # fmt: skip
    return np.stack([read(path) for path in images]), np.stack([read(p) for p in paths])


def content(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "streets"
    generate_synthetic_streets(root, **SMALL)
    return root


def test_layout(synthetic_streets):
    files = content(synthetic_streets)
    # An image, polygons, label ids and train ids each; two lists and the recipe.
    assert len(files) == 12 * 4 + 3
    assert f"leftImg8bit/val/cedernheim/{STEM}_leftImg8bit.png" in files
    assert f"gtFine/val/cedernheim/{STEM}_gtFine_polygons.json" in files
    assert f"gtFine/val/cedernheim/{STEM}_gtFine_labelIds.png" in files
    assert f"gtFine/val/cedernheim/{STEM}_gtFine_labelTrainIds.png" in files
    assert files["val.txt"].decode().split()[2] == f"cedernheim/{STEM}"


def test_annotation_is_that_of_cityscapes(synthetic_streets):
    paths = sorted(synthetic_streets.glob("gtFine/*/*/*_polygons.json"))
    assert len(paths) == 12
    for path in paths:
        annotation = json.loads(path.read_text())
        assert (annotation["imgHeight"], annotation["imgWidth"]) == (128, 256)
        for item in annotation["objects"]:
            assert item["label"] in name2label
            corners = np.array(item["polygon"])
            assert corners.ndim == 2 and corners.shape[1] == 2 and len(corners) >= 3
            assert corners.dtype.kind == "i"
        assert annotation["objects"][0]["label"] == "sky"
        assert annotation["objects"][-1]["label"] == "ego vehicle"


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("root", ["synthetic_streets", "small"])
def test_all_classes_and_some_void_occur_in_every_split(root, split, request):
    _, labels = load(request.getfixturevalue(root), split)
    assert set(np.unique(labels).tolist()) == {*range(19), 255}
    areas = np.bincount(labels.ravel(), minlength=256)[:19]
    assert areas.min() >= 1e-3 * labels[0].size


def test_a_rare_class_in_turn_and_all_others_in_every_image(synthetic_streets):
    frequent = set(range(19)) - {14, 15, 16, 17}
    for split in ("train", "val"):
        for path in synthetic_streets.glob(f"gtFine/{split}/*/*_labelTrainIds.png"):
            turn = int(path.name.split("_")[1]) % 4  # truck, bus, train, motorcycle
            assert frequent | {14 + turn} <= set(np.unique(read(path)).tolist())


def test_ignored_labels_include_the_ego_vehicle_and_static(synthetic_streets):
    ids = np.stack(
        [read(path) for path in synthetic_streets.glob("gtFine/*/*/*_labelIds.png")]
    )
    seen = set(np.unique(ids).tolist())
    assert {name2label[n].id for n in ("ego vehicle", "static", "rail track")} <= seen


def test_the_same_arguments_give_the_same_bytes(small, tmp_path):
    generate_synthetic_streets(tmp_path / "again", **SMALL)
    first, again = content(small), content(tmp_path / "again")
    assert first.keys() == again.keys()
    for name in first:
        assert first[name] == again[name], name


def test_another_seed_gives_other_pictures_and_a_longer_split_the_same(small, tmp_path):
    generate_synthetic_streets(tmp_path / "seed", **SMALL, seed=1)
    other = dict(SMALL, num_val=5)
    generate_synthetic_streets(tmp_path / "longer", **other)
    images, labels = load(small, "val")
    seed_images, seed_labels = load(tmp_path / "seed", "val")
    assert all((a != b).any() for a, b in zip(images, seed_images, strict=True))
    assert all((a != b).any() for a, b in zip(labels, seed_labels, strict=True))
    longer_images, longer_labels = load(tmp_path / "longer", "val")
    np.testing.assert_array_equal(longer_images[:4], images)
    np.testing.assert_array_equal(longer_labels[:4], labels)


def test_train_and_val_differ(small):
    train, _ = load(small, "train")
    val, _ = load(small, "val")
    assert all((a != b).any() for a in train for b in val)


def test_colour_alone_does_not_tell_the_classes(synthetic_streets):
    """The best guess by colour, 16 levels a channel, learnt on train, scored on val."""

    def bins(images):
        return (images.astype(int) // 16) @ [256, 16, 1]

    images, labels = load(synthetic_streets, "train")
    counts = np.zeros((4096, 256))
    np.add.at(counts, (bins(images), labels), 1)
    images, labels = load(synthetic_streets, "val")
    guess = counts[:, :19].argmax(1)[bins(images)]
    ious = []
    for label in range(19):
        hit, truth = (guess == label) & (labels != 255), labels == label
        ious.append((hit & truth).sum() / (hit | truth).sum())
    assert np.mean(ious) < 0.25


def test_the_edges_of_image_and_labels_agree(synthetic_streets):
    """Neighbours of two classes differ more in colour than neighbours of one."""
    images, labels = load(synthetic_streets, "train")
    contrast = np.abs(np.diff(images.astype(float), axis=2)).mean(-1)
    border = np.diff(labels.astype(int), axis=2) != 0
    assert contrast[border].mean() > 2 * contrast[~border].mean()


def test_a_finished_set_is_left_alone_and_another_is_refused(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    generate_synthetic_streets(small, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    with pytest.raises(FileExistsError, match=r"is not the set .*delete it"):
        generate_synthetic_streets(small, **SMALL, seed=1)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_strangers_files_are_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="delete it, or choose another folder"):
        generate_synthetic_streets(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_run_leaves_no_set_and_the_next_one_is_whole(
    small, tmp_path, monkeypatch
):
    from streets import writing

    def interrupt(*arguments):
        raise KeyboardInterrupt

    out = tmp_path / "new" / "streets"
    with monkeypatch.context() as patch:
        patch.setattr(writing, "json2labelImg", interrupt)
        with pytest.raises(KeyboardInterrupt):
            generate_synthetic_streets(out, **SMALL)
    assert not out.exists()
    generate_synthetic_streets(out, **SMALL)
    assert content(out) == content(small)
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(num_train=3), "num_train=3: a split needs at least 4 images"),
        (dict(num_val=0), "num_val=0: a split needs at least 4 images"),
        (dict(height=32), "images of 32x256: .* at least 64x128"),
        (dict(width=64), "images of 128x64: .* at least 64x128"),
        (dict(seed=-1), "seed=-1"),
    ],
)
def test_arguments_that_are_too_small(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_synthetic_streets(tmp_path / "out", **arguments)
    assert not list(tmp_path.iterdir())


def test_camera_projects_by_hand():
    """At 10 m and a focal length of 100 pixels, a metre is 10 pixels."""
    camera = Camera(128, 256, 60.0, 120.0, focal=100.0, elevation=1.5)
    pixels = camera.project([(0, 1.5, 10), (2, 0, 10), (-1, 3.5, 20), (1, 0, -3)])
    # Behind the camera counts as 1 m before it.
    np.testing.assert_allclose(pixels, [[120, 60], [140, 75], [115, 50], [220, 210]])
    np.testing.assert_allclose(
        camera.upright([(0, 0), (1, 2)], x=2, z=10), [[140, 75], [150, 55]]
    )
    np.testing.assert_allclose(camera.ground([(2, 10)]), [[140, 75]])
    assert camera.half_width(10) == pytest.approx(12.8)


def test_convex_hull_drops_inner_points():
    points = np.array([(0, 0), (4, 0), (4, 3), (0, 3), (2, 1), (1, 2)], dtype=float)
    assert {tuple(p) for p in convex_hull(points)} == {(0, 0), (4, 0), (4, 3), (0, 3)}


def test_visible_shapes_are_painted_over_in_order_and_skip_mere_paint():
    def square(label, left, right):
        corners = np.array([(left, 0), (right, 0), (right, 1), (left, 1)])
        return Shape(label, corners, (0, 0, 0), depth=None)

    shapes = [square("sky", 0, 3), square("car", 1, 3), square(None, 0, 3),
              square("bus", 3, 3)]  # fmt: skip
    assert visible_shapes(shapes, 2, 4).tolist() == [[0, 1, 1, 3]] * 2


def test_two_that_draw_the_same_set_both_have_it(small, tmp_path, monkeypatch):
    """The one that comes later waits, and finds the set of the other."""
    out, drawn = tmp_path / "streets", []
    draw_all = writing.draw_all

    def draw_slowly(*arguments):
        drawn.append(arguments)
        later.start()
        draw_all(*arguments)

    monkeypatch.setattr(writing, "draw_all", draw_slowly)
    later = Thread(target=generate_synthetic_streets, args=(out,), kwargs=SMALL)
    generate_synthetic_streets(out, **SMALL)
    later.join()
    assert len(drawn) == 1
    assert content(out) == content(small)
    assert [*tmp_path.iterdir()] == [out]
