"""IoU of each class, against areas counted by hand."""

import math

import pytest
import torch
from mmengine.registry import METRICS


@pytest.mark.parametrize(("number", "absent"), [(None, math.nan), (0, 0)])
def test_each_class_has_its_value(number, absent):
    options = dict(ignore_index=9, nan_to_num=number)
    metric = METRICS.build(dict(type="ClassIoUMetric", **options))
    metric.dataset_meta = dict(classes=("road", "car", "sky", "bicycle"))
    pairs = [([[0, 0, 1, 1]], [[0, 1, 1, 9]]), ([[1, 0, 2, 0]], [[1, 1, 2, 0]])]
    samples = [
        {
            "pred_sem_seg": {"data": torch.tensor(prediction)},
            "gt_sem_seg": {"data": torch.tensor(label)},
        }
        for prediction, label in pairs
    ]
    metric.process({}, samples)
    metrics = metric.evaluate(len(samples))
    # road: both 2, predicted 4, labelled 2; car: both 2, predicted 2, labelled 4.
    assert metrics["IoU.road"] == metrics["IoU.car"] == 50
    assert metrics["IoU.sky"] == 100
    assert metrics["IoU.bicycle"] == pytest.approx(absent, nan_ok=True)
    assert METRICS.build(dict(type="ClassIoUMetric", format_only=True,
                              output_dir="none")).compute_metrics([]) == {}  # fmt: skip
    assert metrics["mIoU"] == pytest.approx(200 / 3 if number is None else 50, abs=0.01)
