"""The generator: layout, classes, agreement of image and labels, determinism."""

import json
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from PIL import Image
from streets import generate_synthetic_streets, writing

SMALL = dict(num_train=4, num_val=4, height=64, width=128)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def load(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) and train ids (N, H, W) of a split."""
    labels = sorted(root.glob(f"gtFine/{split}/*/*_labelTrainIds.png"))
    images = sorted(root.glob(f"leftImg8bit/{split}/*/*_leftImg8bit.png"))
    return np.stack([read(p) for p in images]), np.stack([read(p) for p in labels])


def content(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    generate_synthetic_streets(root, num_train=8, num_val=4)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small") / "streets"
    generate_synthetic_streets(root, **SMALL)
    return root


def test_the_layout_and_the_annotation_are_those_of_cityscapes(streets):
    files = content(streets)
    assert len(files) == 12 * 4 + 1  # image, polygons, two label maps; the recipe
    stem = "val/cedernheim/cedernheim_000002_000019"
    assert f"leftImg8bit/{stem}_leftImg8bit.png" in files
    assert f"gtFine/{stem}_gtFine_labelTrainIds.png" in files
    annotation = json.loads(files[f"gtFine/{stem}_gtFine_polygons.json"])
    assert (annotation["imgHeight"], annotation["imgWidth"]) == (128, 256)
    assert all(item["label"] in name2label for item in annotation["objects"])
    ids = set(np.unique(read(streets / f"gtFine/{stem}_gtFine_labelIds.png")).tolist())
    assert {name2label[name].id for name in ("ego vehicle", "train")} <= ids


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("root", ["streets", "small"])
def test_one_rare_class_and_all_others_occur_in_every_image(root, split, request):
    root = request.getfixturevalue(root)
    frequent = {*range(14), 18}
    for path in root.glob(f"gtFine/{split}/*/*_labelTrainIds.png"):
        turn = int(path.name.split("_")[1]) % 4  # truck, bus, train, motorcycle
        labels, areas = np.unique(read(path), return_counts=True)
        assert {*frequent, 14 + turn, 255} == set(labels.tolist())
        assert areas.min() >= 1e-3 * areas.sum()


def test_the_same_arguments_give_the_same_bytes(small, tmp_path):
    generate_synthetic_streets(tmp_path / "again", **SMALL)
    assert content(tmp_path / "again") == content(small)


def test_another_seed_gives_other_images_and_a_longer_split_the_same(small, tmp_path):
    generate_synthetic_streets(tmp_path / "seed", **SMALL, seed=1)
    generate_synthetic_streets(tmp_path / "longer", **SMALL | dict(num_val=5))
    images, labels = load(small, "val")
    for others in (load(tmp_path / "seed", "val"), load(small, "train")):
        assert all((a != b).any() for a, b in zip(images, others[0], strict=True))
        assert all((a != b).any() for a, b in zip(labels, others[1], strict=True))
    longer_images, longer_labels = load(tmp_path / "longer", "val")
    np.testing.assert_array_equal(longer_images[:4], images)
    np.testing.assert_array_equal(longer_labels[:4], labels)


def test_colour_alone_does_not_tell_the_classes(streets):
    """The best guess by colour, 16 levels per channel, fitted on train."""

    def bins(images):
        return (images.astype(int) // 16) @ [256, 16, 1]

    images, labels = load(streets, "train")
    counts = np.zeros((4096, 256))
    np.add.at(counts, (bins(images), labels), 1)
    images, labels = load(streets, "val")
    guess = counts[:, :19].argmax(1)[bins(images)]
    ious = []
    for label in range(19):
        hit, truth = (guess == label) & (labels != 255), labels == label
        ious.append((hit & truth).sum() / (hit | truth).sum())
    assert np.mean(ious) < 0.25


def test_existing_files_are_left_alone(small, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    generate_synthetic_streets(small, **SMALL)
    with pytest.raises(FileExistsError, match=r"is not the data set .*delete it"):
        generate_synthetic_streets(small, **SMALL, seed=1)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose another folder"):
        generate_synthetic_streets(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_run_after_an_interrupted_one_is_whole(small, tmp_path, monkeypatch):
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
        (dict(num_train=3), "num_train=3, num_val=48: each split needs at least 4"),
        (dict(num_val=0), "num_train=48, num_val=0: each split needs at least 4"),
        (dict(height=32), "images of 32x256: .* at least 64x128"),
        (dict(seed=-1), "seed=-1"),
    ],
)
def test_arguments_that_are_too_small(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_synthetic_streets(tmp_path / "out", **arguments)
    assert not list(tmp_path.iterdir())
