"""CamVid: classes, and a void that is ignored from the disk to the metric."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import DATASETS, METRICS
from PIL import Image

from mmseg_dynet.datasets import CamVidDataset

CONFIG = Path(__file__).parents[2] / "configs/_base_/datasets/camvid.py"


@pytest.fixture(scope="module")
def config():
    return Config.fromfile(CONFIG)


@pytest.fixture
def camvid(tmp_path):
    """Two training and one validation image of 360x480; their maps hold 0 to 11."""
    rng = np.random.default_rng(0)
    for split, names in (("train", ("b", "a")), ("val", ("c",))):
        for kind in ("img_dir", "ann_dir"):
            (tmp_path / kind / split).mkdir(parents=True)
        for name in names:
            image = rng.integers(0, 256, (360, 480, 3), dtype=np.uint8)
            labels = np.repeat(np.arange(12, dtype=np.uint8), 30)[:, None]
            labels = np.broadcast_to(labels, (360, 480))
            Image.fromarray(image).save(tmp_path / f"img_dir/{split}/{name}.png")
            Image.fromarray(labels).save(tmp_path / f"ann_dir/{split}/{name}.png")
    return tmp_path


def build(config, root, loader="train_dataloader", **changes):
    dataset = config[loader].dataset.copy()
    dataset.update(data_root=str(root), **changes)
    return DATASETS.build(dataset)


def test_classes_and_palette():
    assert CamVidDataset.METAINFO["classes"] == (
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence",
        "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    palette = CamVidDataset.METAINFO["palette"]
    assert len({tuple(colour) for colour in palette}) == 11
    assert palette[3] == [128, 64, 128] and palette[8] == [64, 0, 128]


def test_lists_pairs_in_order_and_keeps_void(config, camvid):
    load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    dataset = build(config, camvid, pipeline=load)
    assert isinstance(dataset, CamVidDataset)
    assert dataset.ignore_index == 11
    assert [Path(dataset[i]["img_path"]).name for i in range(2)] == ["a.png", "b.png"]
    labels = dataset[0]["gt_seg_map"]
    assert np.unique(labels).tolist() == list(range(12))
    assert labels[0, 0] == 0 and labels[-1, -1] == 11
    assert len(build(config, camvid, "val_dataloader")) == 1


def test_classes_left_out_become_void(config, camvid):
    load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    dataset = build(
        config, camvid, pipeline=load, metainfo=dict(classes=("car", "road"))
    )
    labels = dataset[0]["gt_seg_map"][::30, 0]
    assert labels.tolist() == [11, 11, 11, 1, 11, 11, 11, 11, 0, 11, 11, 11]
    assert dataset.metainfo["palette"] == [[64, 0, 128], [128, 64, 128]]


def test_a_train_sample_smaller_than_the_crop_is_padded_with_void(config, camvid):
    """Of an image of 180x240 the rest of 240x320 is padding."""
    pipeline = [step.copy() for step in config.train_pipeline]
    resize = next(step for step in pipeline if step.type == "Resize")
    resize.scale = (240, 180)
    sample = build(config, camvid, pipeline=pipeline)[0]
    assert sample["inputs"].shape == (3, 180, 240)
    preprocessor = SegDataPreProcessor(
        size=config.crop_size, seg_pad_val=config.ignore_index
    )
    batch = preprocessor(
        dict(inputs=[sample["inputs"]], data_samples=[sample["data_samples"]]),
        training=True,
    )
    labels = batch["data_samples"][0].gt_sem_seg.data[0]
    assert batch["inputs"].shape == (1, 3, 240, 320)
    assert labels.shape == (240, 320)
    assert (labels[180:] == 11).all() and (labels[:, 240:] == 11).all()
    assert set(labels[:180, :240].unique().tolist()) == set(range(12))


def test_crops_are_as_large_as_asked_for(config, camvid):
    dataset = build(config, camvid)
    for _ in range(4):
        sample = dataset[0]
        height, width = sample["inputs"].shape[1:]
        assert (height, width) == (240, 320)
        assert sample["data_samples"].gt_sem_seg.shape == (height, width)
        assert sample["data_samples"].gt_sem_seg.data.max() <= 11


def test_val_images_keep_their_size(config, camvid):
    sample = build(config, camvid, "val_dataloader")[0]
    assert sample["inputs"].shape == (3, 360, 480)
    assert sample["data_samples"].gt_sem_seg.shape == (360, 480)


def test_the_crop_does_not_count_void(config):
    crops = [step for step in config.train_pipeline if step.type == "RandomCrop"]
    assert [crop.ignore_index for crop in crops] == [11]


def metric_of(config, labels, predicted):
    metric = METRICS.build(config)
    metric.dataset_meta = CamVidDataset.METAINFO
    sample = dict(
        pred_sem_seg=dict(data=torch.tensor(predicted)[None]),
        gt_sem_seg=dict(data=torch.tensor(labels)[None]),
    )
    metric.process({}, [sample])
    return metric.evaluate(size=1)


def test_the_metric_ignores_void(config):
    labels = [[0, 0, 11], [1, 1, 11]]
    predicted = [[0, 1, 0], [1, 1, 1]]
    # Sky: 1 of 2 pixels. Building: 2 of 3. Neither counts its pixel on void.
    result = metric_of(config.val_evaluator, labels, predicted)
    assert result["mIoU"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2, abs=5e-3)
    assert result["aAcc"] == pytest.approx(100 * 3 / 4)
    assert config.test_evaluator == config.val_evaluator
    # What the value 255 of mmseg's defaults would report: 1 of 3, and 2 of 4.
    wrong = metric_of(dict(type="IoUMetric"), labels, predicted)
    assert wrong["mIoU"] == pytest.approx(100 * (1 / 3 + 2 / 4) / 2, abs=5e-3)


def test_the_loss_ignores_void(config):
    """``ignore_index`` of the decode head reaches its loss and its accuracy."""
    head = FCNHead(
        in_channels=4,
        channels=4,
        num_classes=11,
        num_convs=0,
        concat_input=False,
        ignore_index=config.ignore_index,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    )
    logits = torch.randn(1, 11, 2, 2)
    labels = torch.tensor([[3, 11], [11, 5]])
    sample = type("Sample", (), {})()
    sample.gt_sem_seg = type("Map", (), {"data": labels[None]})()
    log_odds = logits.log_softmax(dim=1)
    losses = head.loss_by_feat(logits, [sample])
    expected = -(log_odds[0, 3, 0, 0] + log_odds[0, 5, 1, 1]) / 2
    torch.testing.assert_close(losses["loss_ce"], expected)
    labels.fill_(11)
    assert head.loss_by_feat(logits, [sample])["loss_ce"] == 0
