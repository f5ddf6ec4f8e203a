"""Each kind of bad data is named with its file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_dynet.cli import check_data
from mmseg_dynet.datasets.checks import CheckFiles, CheckLabels, check_samples

FOLDER = Path(__file__).parents[2] / "configs/_base_/datasets"
CONFIGS = sorted(p for p in FOLDER.glob("*.py") if not p.stem.startswith("imagenet"))


@pytest.fixture
def sample(tmp_path: Path) -> dict:
    """A picture of 16x32 pixels and its label map, of all classes and of none."""
    image, labels = tmp_path / "image.png", tmp_path / "labels.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (16, 32, 3), dtype=np.uint8)).save(image)
    classes = np.arange(16 * 32, dtype=np.uint8).reshape(16, 32) % 19
    classes[0] = 255
    Image.fromarray(classes).save(labels)
    return dict(
        img_path=str(image), seg_map_path=str(labels), seg_fields=[], label_map=None,
        reduce_zero_label=False, sample_idx=0,
    )  # fmt: skip


def damage(path: str, kind: str) -> None:
    content = bytearray(Path(path).read_bytes())
    half = len(content) // 2
    if kind == "flipped":
        content[half] ^= 1
    damaged = {
        "empty": b"",
        "text": b"a picture",
        "cut off": content[:half],
        "without its end": content[:-1],
        "flipped": content,
    }
    Path(path).write_bytes(damaged[kind])


@pytest.mark.parametrize("key", ["img_path", "seg_map_path"])
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (suffix, kind)
        for suffix in (".png", ".jpg")
        for kind in ("empty", "text", "cut off", "without its end", "flipped")
        if (suffix, kind) != (".jpg", "flipped")  # a JPEG has no checksum
    ],
)
def test_damaged_files_are_named(sample, key, suffix, kind):
    if suffix == ".jpg":
        picture = Path(sample[key]).with_suffix(suffix)
        with Image.open(sample[key]) as image:
            image.save(picture)
        sample[key] = str(picture)
    assert CheckFiles()(sample) == sample
    damage(sample[key], kind)
    with pytest.raises(ValueError, match=rf"{sample[key]} is cut off, .*again"):
        CheckFiles()(sample)


@pytest.mark.parametrize("key", ["img_path", "seg_map_path"])
def test_a_missing_file_is_named(sample, key):
    Path(sample[key]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{sample[key]} is missing"):
        CheckFiles()(sample)


def test_label_maps_have_one_channel_of_8_bits(sample):
    path = sample["seg_map_path"]
    with Image.open(path) as image:
        image.convert("P").save(path)
    CheckFiles()(sample)
    with Image.open(sample["img_path"]) as image:
        image.save(path)
    with pytest.raises(ValueError, match=rf"{path} is a picture of mode RGB"):
        CheckFiles()(sample)
    Image.fromarray(np.full((16, 32), 256 + 3, dtype=np.uint16)).save(path)
    with pytest.raises(ValueError, match=rf"{path} is a picture of mode I"):
        CheckFiles()(sample)


def test_labels_outside_the_classes_are_listed(sample):
    labels = np.array([[0, 18, 19], [255, 33, 19]], dtype=np.uint8)
    sample |= dict(gt_seg_map=labels, ori_shape=(2, 3))
    with pytest.raises(
        ValueError, match=r"labels\.png holds the labels \[19, 33\] in 3"
    ):
        CheckLabels(num_classes=19)(sample)
    with pytest.raises(
        ValueError, match=r"\[33, 255\] in 2 pixels: .* 0 to 18, and 19"
    ):
        CheckLabels(num_classes=19, ignore_index=19)(sample)
    assert CheckLabels(num_classes=34)(sample)["gt_seg_map"] is labels


def test_a_label_map_of_another_size_is_named(sample):
    sample |= dict(gt_seg_map=np.zeros((2, 3), np.uint8), ori_shape=(3, 2))
    with pytest.raises(
        ValueError,
        match=r"labels\.png is \(2, 3\), but its image .*image\.png is \(3, 2",
    ):
        CheckLabels(num_classes=19)(sample)


def test_samples_without_files_and_labels_pass():
    sample = dict(img=np.zeros((2, 2, 3)), img_path=None)
    assert CheckLabels(num_classes=19)(CheckFiles()(sample)) is sample


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_all_pipelines_check(sample, path, split):
    pipeline = Config.fromfile(path)[f"{split}_dataloader"].dataset.pipeline
    names = [step.type for step in pipeline]
    # MMSegmentation's inference gives a picture in memory to the first step.
    assert names[0] == ("SeedAugmentation" if split == "train" else "LoadImageFromFile")
    assert names[1] == "CheckFiles"
    assert names[names.index("LoadAnnotations") + 1] == "CheckLabels"
    init_default_scope("mmseg")
    void = 11 if path.stem == "camvid" else 255
    labels = np.full((16, 32), void, dtype=np.uint8)
    labels[0, 0] = 11 if void == 255 else 10
    Image.fromarray(labels).save(sample["seg_map_path"])
    Compose(pipeline)(sample.copy())
    labels[0, 0] = 254
    Image.fromarray(labels).save(sample["seg_map_path"])
    with pytest.raises(ValueError, match=r"labels\.png holds the labels \[254\]"):
        Compose(pipeline)(sample | dict(seg_fields=[]))


def test_missing_and_empty_data_sets_are_named(synthetic_streets, tmp_path):
    config = Config.fromfile(FOLDER / "synthetic_streets_128x256.py")
    root = tmp_path / "streets"
    shutil.copytree(synthetic_streets, root)
    for split in ("train", "val"):
        config[f"{split}_dataloader"].dataset.data_root = str(root)
    check_data(config, "train", "val")
    check_data(Config(), "test")

    shutil.rmtree(root / "gtFine/val")
    with pytest.raises(
        FileNotFoundError, match=rf"no folder {root}/gtFine/val: prepare"
    ):
        check_data(config, "train", "val")
    shutil.rmtree(root / "leftImg8bit/train")
    with pytest.raises(FileNotFoundError, match=rf"no folder {root}/leftImg8bit/train"):
        check_data(config, "train")
    (root / "leftImg8bit/train").mkdir()
    (root / "leftImg8bit/train/a.png").touch()
    with pytest.raises(
        FileNotFoundError, match=r"empty: no \*_leftImg8bit\.png in .*tr"
    ):
        check_data(config, "train")


def test_data_sets_of_others_are_left_alone():
    check_samples(dict(type="ConcatDataset", datasets=[]))
