"""Modes of inference, against each mode done by hand on four images."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS
from mmseg.models.segmentors import EncoderDecoder
from study.modes import (
    CENTRE_CROP,
    KEPT,
    MEAN,
    SLIDING,
    WHOLE,
    WHOLE_KERNELS,
    compare_inference_modes,
)
from torch import Tensor, nn

from mmseg_dynet.apis import build_model

CONFIGS = Path(__file__).parents[3] / "configs/dynet"
NAME = "r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
IMAGE, CROP = (128, 256), (64, 128)
# Of 64 x 128 at a stride of 43 x 85; the last ones end where the image does.
WINDOWS = [(top, left) for top in (0, 43, 64) for left in (0, 85, 128)]
CENTRE = (32, 64)
MODES = (WHOLE, SLIDING, WHOLE_KERNELS, CENTRE_CROP, MEAN,
         KEPT.format(2), KEPT.format(3))  # fmt: skip


def build(config: str, root: Path) -> tuple:
    """Build a segmentor, the data set and the evaluator that it is tested with."""
    cfg = Config.fromfile(CONFIGS / config)
    torch.manual_seed(0)
    model = build_model(cfg)
    cfg.test_dataloader.dataset.data_root = str(root)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    return model, dataset, Evaluator(cfg.test_evaluator)


@pytest.fixture(scope="module")
def dynamic(tiny_cityscapes, vary) -> tuple:
    model, *others = build(f"dy-{NAME}", tiny_cityscapes)
    return vary(model), *others


@pytest.fixture(scope="module")
def compared(dynamic) -> dict:
    return compare_inference_modes(*dynamic, CROP, reuse=(2, 3))


def cut(image: Tensor, top: int, left: int) -> Tensor:
    return image[:, :, top : top + CROP[0], left : left + CROP[1]]


def walk(model: EncoderDecoder, x: Tensor) -> Iterator[tuple[nn.Module, tuple]]:
    """Yield each predictor with what it returns, block by block."""
    stem = model.backbone
    x = stem.maxpool(stem.relu(stem.norm1(stem.conv1(x))))
    for name in stem.res_layers:
        for block in getattr(stem, name):
            yield block.predictor, block.predictor(x)
            x = block(x)


def mean(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(tensors).mean(0)


def coefficients(model: EncoderDecoder, *images: Tensor) -> list[Tensor]:
    """Return those of an image, or the mean over several."""
    each = [
        [layer for _, layers in walk(model, image) for layer in layers]
        for image in images
    ]
    return [mean(layer) for layer in zip(*each, strict=True)]


def with_kernels_of(model: EncoderDecoder, *images: Tensor) -> EncoderDecoder:
    """Copy a model; its predictors return for any image what they do for these."""
    fixed = deepcopy(model)
    walks = [list(walk(fixed, image)) for image in images]
    for steps in zip(*walks, strict=True):
        predictors, layers = zip(*steps, strict=True)
        constant = tuple(mean(layer) for layer in zip(*layers, strict=True))
        predictors[0].forward = lambda _, constant=constant: constant
    return fixed


def logits(model: EncoderDecoder, image: Tensor) -> Tensor:
    return F.interpolate(model(image), image.shape[2:], mode="bilinear")


def slide(model: EncoderDecoder, image: Tensor) -> Tensor:
    total, count = torch.zeros(1, 19, *IMAGE), torch.zeros(1, 1, *IMAGE)
    for corner in WINDOWS:
        cut(total, *corner).add_(logits(model, cut(image, *corner)))
        cut(count, *corner).add_(1)
    return total / count


def mean_iou(labels: list[np.ndarray], truths: list[np.ndarray]) -> float:
    predicted, true = np.stack(labels), np.stack(truths)
    predicted, true = predicted[true != 255], true[true != 255]
    ious = []
    for category in range(19):
        either = (predicted == category) | (true == category)
        if either.any():
            both = (predicted == category) & (true == category)
            ious.append(both.sum() / either.sum())
    return 100 * np.mean(ious)


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_each_mode_is_what_it_is_by_hand(mode, dynamic, compared):
    model, dataset, _ = dynamic
    samples = [pseudo_collate([sample]) for sample in dataset]
    images = [model.data_preprocessor(sample)["inputs"] for sample in samples]
    sources = {  # which images, or parts of them, the kernels come from
        WHOLE: [[image] for image in images],
        WHOLE_KERNELS: [[image] for image in images],
        CENTRE_CROP: [[cut(image, *CENTRE)] for image in images],
        MEAN: [images] * len(images),
        KEPT.format(2): [[images[i]] for i in (0, 0, 2, 2)],
        KEPT.format(3): [[images[i]] for i in (0, 0, 0, 3)],
    }
    labels, differences = [], []
    for index, image in enumerate(images):
        if mode == SLIDING:
            scores = slide(model, image)
            used = [coefficients(model, cut(image, *corner)) for corner in WINDOWS]
        else:
            source = sources[mode][index]
            predict = slide if mode == WHOLE_KERNELS else logits
            scores = predict(with_kernels_of(model, *source), image)
            used = [coefficients(model, *source)]
        labels.append(scores.argmax(1)[0].numpy())
        whole = coefficients(model, image)
        assert len(whole) == 8 * 2
        for layers in used:
            for layer, reference in zip(layers, whole, strict=True):
                differences.append((layer - reference).abs().mean().item())
    truths = [sample["data_samples"].gt_sem_seg.data[0].numpy() for sample in dataset]
    metrics = compared[mode]["metrics"]
    # The metric rounds to two digits.
    assert metrics["mIoU"] == pytest.approx(mean_iou(labels, truths), abs=0.0051)
    assert compared[mode]["coefficient_difference"] == pytest.approx(
        np.mean(differences), rel=1e-4, abs=0
    )


def test_modes_come_in_order_and_differ(compared):
    assert tuple(compared) == MODES
    assert len({mode["metrics"]["mIoU"] for mode in compared.values()}) == len(MODES)


def test_a_static_network_has_no_kernels_to_keep(tiny_cityscapes):
    results = compare_inference_modes(*build(NAME, tiny_cityscapes), CROP, reuse=(2,))
    assert tuple(results) == (WHOLE, SLIDING)
    assert all(mode["coefficient_difference"] is None for mode in results.values())


def test_the_model_is_left_as_it_was(dynamic, compared):
    model, *_ = dynamic
    assert model.test_cfg.mode == "whole"
    assert not any(module._forward_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())
