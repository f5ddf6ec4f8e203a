"""Test a network on images one by one, in this process."""

from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader


def images_of(cfg: Config, dataset: dict) -> DataLoader:
    """The images of a data set of a config, one by one and as in a test."""
    dataset = dict(dataset, pipeline=cfg.test_dataloader.dataset.pipeline)
    return Runner.build_dataloader(dict(cfg.test_dataloader, dataset=dataset))


@torch.inference_mode()
def test(cfg: Config, model: nn.Module, images: DataLoader) -> dict[str, Tensor]:
    """The areas (3, classes) of each image in pixels, by its path.

    They are the intersections of prediction and label, their unions, and the labels.
    """
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = images.dataset.metainfo
    (metric,) = evaluator.metrics
    areas = {}
    for batch in track(images, "test", transient=True):
        (sample,) = samples = model.test_step(batch)
        evaluator.process(samples, batch)
        intersections, unions, _, labels = metric.results.pop()
        areas[sample.img_path] = torch.stack([intersections, unions, labels]).long()
    return areas


def collection_of(path: str) -> str:
    """The photographs that were taken together; of CamVid, the drive."""
    name = Path(path).stem
    return name.partition("__" if "__" in name else "_")[0]


def mean_iou(areas: Iterable[Tensor]) -> float:
    """The mIoU in percent of images with these areas, over classes with labels."""
    intersections, unions, labels = torch.stack(list(areas)).sum(0).double()
    iou = (intersections / unions)[labels > 0]
    return round(100 * iou.mean().item(), 2)
