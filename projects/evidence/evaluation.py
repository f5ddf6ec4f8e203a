"""Test a network on images one by one, in this process."""

from collections import defaultdict
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from rich.progress import track
from torch import nn
from torch.utils.data import DataLoader


def images_of(cfg: Config, dataset: dict) -> DataLoader:
    """The images of a data set of a config, one by one and as in a test."""
    dataset = dict(dataset, pipeline=cfg.test_dataloader.dataset.pipeline)
    return Runner.build_dataloader(dict(cfg.test_dataloader, dataset=dataset))


@torch.inference_mode()
def evaluate(
    cfg: Config,
    model: nn.Module,
    images: DataLoader,
    part_of: Callable[[str], str] | None = None,
) -> dict[str, float]:
    """The mIoU in percent of "all" images, and of each part of them.

    ``part_of`` names the part that the path of an image belongs to.
    """

    def new_evaluator() -> Evaluator:
        evaluator = Evaluator(cfg.test_evaluator)
        evaluator.dataset_meta = images.dataset.metainfo
        return evaluator

    evaluators, sizes = defaultdict(new_evaluator), defaultdict(int)
    for batch in track(images, "test", transient=True):
        (sample,) = samples = model.test_step(batch)
        for part in ("all", *([part_of(sample.img_path)] if part_of else ())):
            evaluators[part].process(samples, batch)
            sizes[part] += 1
    return {
        part: round(float(evaluator.evaluate(sizes[part])["mIoU"]), 2)
        for part, evaluator in evaluators.items()
    }
