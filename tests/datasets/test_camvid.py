"""CamVid: classes, and a void that is ignored from the disk to the loss."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from PIL import Image

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = Config.fromfile(CONFIGS / "dynet/r18-d16_fcn_1xb4-2k_camvid-240x320.py")
LOAD = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]


@pytest.fixture
def camvid(tmp_path):
    """Two training images of 360x480 in 12 stripes, of each class and of void."""
    rng = np.random.default_rng(0)
    labels = np.repeat([*range(11), 255], 30).astype(np.uint8)[:, None]
    for kind in ("img_dir", "ann_dir"):
        (tmp_path / kind / "train").mkdir(parents=True)
    for name in "ba":
        image = rng.integers(0, 256, (360, 480, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"img_dir/train/{name}.png")
        Image.fromarray(np.broadcast_to(labels, (360, 480))).save(
            tmp_path / f"ann_dir/train/{name}.png"
        )
    return tmp_path


def test_lists_pairs_in_order_and_keeps_void(camvid):
    changes = dict(data_root=str(camvid), pipeline=LOAD)
    dataset = DATASETS.build({**CONFIG.train_dataloader.dataset, **changes})
    assert [Path(sample["img_path"]).name for sample in dataset] == ["a.png", "b.png"]
    labels = dataset[0]["gt_seg_map"][::30, 0]
    assert labels.tolist() == [*range(11), 255]


def sample_of(labels):
    sample = SegDataSample(metainfo=dict(img_shape=labels.shape))
    sample.gt_sem_seg = PixelData(data=labels[None])
    return sample


def test_loss_is_the_mean_over_pixels_of_the_weighted_one():
    """Void counts as a pixel without a loss, whatever the size of the batch."""
    head = revert_sync_batchnorm(MODELS.build(CONFIG.model.decode_head))
    model = MODELS.build(dict(CONFIG.model, backbone=CONFIG.model.backbone))
    labels = torch.tensor([[[3, 255], [255, 5]], [[0, 0], [10, 255]]])
    logits = torch.randn(2, 11, 2, 2)
    losses = head.loss_by_feat(logits, [sample_of(m) for m in labels])
    loss, _ = model.parse_losses(losses)
    log_odds = logits.log_softmax(dim=1)
    weight = CONFIG.class_weight
    expected = -(
        weight[3] * log_odds[0, 3, 0, 0]
        + weight[5] * log_odds[0, 5, 1, 1]
        + weight[0] * (log_odds[1, 0, 0, 0] + log_odds[1, 0, 0, 1])
        + weight[10] * log_odds[1, 10, 1, 0]
    )
    torch.testing.assert_close(loss, expected / 8)


def test_real_time_heads_ignore_void():
    """Heads such as DDRHead pass no ignore_index on, and OHEM expects 255."""
    loss = dict(
        type="OhemCrossEntropy", thres=0.9, min_kept=1, class_weight=CONFIG.class_weight
    )
    head = dict(type="DDRHead", in_channels=4, channels=4, num_classes=11)
    head = MODELS.build(head | dict(loss_decode=[loss, loss]))
    logits = torch.randn(1, 11, 2, 2, requires_grad=True)
    labels = torch.tensor([[3, 255], [255, 5]])
    losses = head.loss_by_feat((logits, logits), [sample_of(labels)])
    losses["loss_context"].backward()
    assert (logits.grad.abs().sum(1)[0] > 0).tolist() == [[True, False], [False, True]]
