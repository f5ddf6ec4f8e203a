"""Data sets of segmentation: their crops, and that pipelines run on their images."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

FOLDER = Path(__file__).parents[2] / "configs/_base_/datasets"
PATHS = sorted(p for p in FOLDER.glob("*.py") if not p.stem.startswith("imagenet"))


def steps(pipeline):
    return {step.type: step for step in pipeline}


@pytest.mark.parametrize(
    "name, crop_size, image_size, batch_size",
    [
        ("cityscapes.py", (512, 1024), (2048, 1024), 2),
        ("cityscapes_769x769.py", (769, 769), (2049, 1025), 2),
        ("cityscapes_768x768.py", (768, 768), (2048, 1024), 2),
        ("camvid.py", (240, 320), (480, 360), 4),
    ],
)
def test_sizes(name, crop_size, image_size, batch_size):
    config = Config.fromfile(FOLDER / name)
    train = steps(config.train_dataloader.dataset.pipeline)
    assert config.crop_size == train["RandomCrop"].crop_size == crop_size
    resize = train.get("RandomResize") or train["Resize"]
    assert resize.scale == image_size
    for loader in (config.val_dataloader, config.test_dataloader):
        assert steps(loader.dataset.pipeline)["Resize"].scale == image_size
    assert config.train_dataloader.batch_size == batch_size
    assert config.val_evaluator.iou_metrics == ["mIoU"]


def test_synthetic_streets_run_through_their_pipelines(synthetic_streets):
    config = Config.fromfile(FOLDER / "synthetic_streets_128x256.py")
    assert config.crop_size == (128, 256)
    assert config.train_dataloader.batch_size == 4
    for loader, number in ((config.train_dataloader, 8), (config.val_dataloader, 4)):
        dataset = loader.dataset
        dataset.data_root = str(synthetic_streets)
        dataset = DATASETS.build(dataset)
        assert len(dataset) == number
        sample = dataset[0]
        assert sample["inputs"].shape == (3, 128, 256)
        labels = np.unique(sample["data_samples"].gt_sem_seg.data)
        assert {0, 2, 10, 255} <= set(labels.tolist()) <= {*range(19), 255}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_time_augmentation_pipelines_are_of_the_data_set(path):
    """``tools/test.py --tta`` asks for one in every config."""
    transforms = Config.fromfile(path).tta_pipeline[-1].transforms
    assert [step.type for step in transforms[-2]] == ["LoadAnnotations"]
    assert [step.prob for step in transforms[-3]] == [0.0, 1.0]


def test_number_of_configs():
    assert len(PATHS) == 5
