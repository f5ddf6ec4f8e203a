"""IoU of each class, against areas counted by hand."""

import math

import pytest
import torch
from mmengine.registry import METRICS


@pytest.mark.parametrize("options", [{}, dict(nan_to_num=0)])
def test_each_class_has_its_value(options):
    metric = METRICS.build(dict(type="ClassIoUMetric", ignore_index=9, **options))
    metric.dataset_meta = dict(classes=("road", "car", "sky", "bicycle"))
    pairs = [([[0, 0, 1, 1]], [[0, 1, 1, 9]]), ([[1, 0, 2, 0]], [[1, 1, 2, 0]])]
    samples = [
        {
            "pred_sem_seg": {"data": torch.tensor(prediction)},
            "gt_sem_seg": {"data": torch.tensor(label)},
        }
        for prediction, label in pairs
    ]
    for sample in samples:
        metric.process({}, [sample])
    metrics = metric.evaluate(len(samples))
    # road: both 2, predicted 4, labelled 2; car: both 2, predicted 2, labelled 4.
    assert metrics["IoU.road"] == metrics["IoU.car"] == 50
    assert metrics["IoU.sky"] == 100
    assert metrics["IoU.bicycle"] == pytest.approx(0 if options else math.nan, nan_ok=True)
    assert metrics["mIoU"] == pytest.approx(50 if options else 200 / 3, abs=0.01)
