"""IoUMetric of MMSegmentation and the evaluator of Cityscapes give the same figures.

The official evaluator works on label ids, reads files and knows classes that are not
evaluated; IoUMetric works on train ids. Predictions are saved the way the benchmark
asks for them, and scored by both.
"""

import copy

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling import (
    args as official_args,
)
from cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling import evaluateImgLists
from cityscapesscripts.helpers.labels import trainId2label
from mmseg.datasets import CityscapesDataset
from mmseg.evaluation import IoUMetric
from PIL import Image

CLASSES = CityscapesDataset.METAINFO["classes"]


def shifted(labels, rng):
    """The truth, moved by three pixels; noise where the truth is void."""
    predicted = np.roll(labels, 3, axis=1)
    return np.where(predicted == 255, rng.integers(0, 19, labels.shape), predicted)


def noisy(labels, rng):
    """Every third pixel at random, void included."""
    random = rng.integers(0, 19, labels.shape)
    return np.where(
        (rng.random(labels.shape) < 1 / 3) | (labels == 255), random, labels
    )


def without_trains(labels, rng):
    """A network that takes every train for a bus, and void for road."""
    return np.where(labels == 16, 15, np.where(labels == 255, 0, labels))


@pytest.mark.parametrize("predict", [shifted, noisy, without_trains])
def test_iou_metric_agrees_with_cityscapesscripts(tiny_cityscapes, tmp_path, predict):
    rng = np.random.default_rng(0)
    metric = IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = CityscapesDataset.METAINFO
    to_id = np.array([trainId2label[train_id].id for train_id in range(19)])
    truths = sorted(tiny_cityscapes.glob("gtFine/val/*/*_labelIds.png"))
    assert len(truths) == 4
    predictions = []
    for truth in truths:
        with Image.open(str(truth).replace("labelIds", "labelTrainIds")) as image:
            labels = np.array(image)
        predicted = predict(labels, rng)
        sample = dict(
            pred_sem_seg=dict(data=torch.from_numpy(predicted.astype(np.int64))[None]),
            gt_sem_seg=dict(data=torch.from_numpy(labels)[None]),
        )
        metric.process({}, [sample])
        path = tmp_path / truth.name.replace("gtFine_labelIds", "pred")
        Image.fromarray(to_id[predicted].astype(np.uint8)).save(path)
        predictions.append(str(path))

    args = copy.copy(official_args)
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    expected = evaluateImgLists(predictions, [str(p) for p in truths], args)

    areas = [sum(area) for area in zip(*metric.results, strict=True)]
    ious = metric.total_area_to_metrics(*areas)["IoU"]
    assert len(ious) == 19
    for name, iou in zip(CLASSES, ious, strict=True):
        assert iou == pytest.approx(expected["classScores"][name], abs=1e-6), name
    assert 0 < expected["averageScoreClasses"] < 1
    assert np.mean(ious) == pytest.approx(expected["averageScoreClasses"], abs=1e-6)
    # What mmseg reports is rounded to 0.01 percent.
    reported = metric.evaluate(size=len(truths))["mIoU"]
    assert reported == pytest.approx(100 * expected["averageScoreClasses"], abs=5.1e-3)
