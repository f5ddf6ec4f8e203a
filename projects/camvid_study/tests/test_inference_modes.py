"""Modes of inference, against each mode done by hand on four streets."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
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
from study.inference_modes import (
    CENTRE_CROP,
    KEPT,
    MEAN,
    SLIDING,
    WHOLE,
    WHOLE_KERNELS,
    compare_inference_modes,
)
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.ops import CoefficientPredictor

CONFIGS = Path(__file__).parents[2] / "configs/dynet"
NAME = "r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
IMAGE, CROP = (128, 256), (64, 128)
# Of 64 x 128 at a stride of 43 x 85; the last ones end where the image does.
WINDOWS = [(top, left) for top in (0, 43, 64) for left in (0, 85, 128)]
CENTRE = (32, 64)
MODES = (WHOLE, SLIDING, WHOLE_KERNELS, CENTRE_CROP, MEAN,
         KEPT.format(2), KEPT.format(3))  # fmt: skip


@dataclass
class Trial:
    """What a mode is evaluated with, and on."""

    model: EncoderDecoder
    dataset: Dataset
    evaluator: Evaluator

    @classmethod
    def build(cls, cfg: Config, root: Path) -> "Trial":
        torch.manual_seed(0)
        model = build_model(cfg)
        cfg.test_dataloader.dataset.data_root = str(root)
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        return cls(model, dataset, Evaluator(cfg.test_evaluator))

    def compare(self, crop_size=CROP, reuse=(2, 3)):
        return compare_inference_modes(
            self.model, self.dataset, self.evaluator, crop_size, reuse
        )


@pytest.fixture(scope="module")
def dynamic(tiny_cityscapes) -> Trial:
    """A segmentor whose head is dynamic, too, and whose streets differ in kernels."""
    cfg = load_config(str(CONFIGS / f"dy-{NAME}"))
    cfg.model.decode_head.conv_cfg = dict(type="DyConv2d", num_kernels=2)
    trial = Trial.build(cfg, tiny_cityscapes)
    for predictor in predictors(trial.model):
        predictor.logits.weight.data *= 30
    return trial


@pytest.fixture
def static(tiny_cityscapes) -> Trial:
    return Trial.build(load_config(str(CONFIGS / NAME)), tiny_cityscapes)


@pytest.fixture(scope="module")
def compared(dynamic):
    return dynamic.compare()


def predictors(model: nn.Module) -> list[CoefficientPredictor]:
    return [m for m in model.modules() if isinstance(m, CoefficientPredictor)]


def images_of(trial: Trial) -> list[Tensor]:
    samples = [pseudo_collate([sample]) for sample in trial.dataset]
    return [trial.model.data_preprocessor(sample)["inputs"] for sample in samples]


def cut(image: Tensor, top: int, left: int) -> Tensor:
    return image[:, :, top : top + CROP[0], left : left + CROP[1]]


def walk(model: EncoderDecoder, x: Tensor) -> Iterator[tuple[nn.Module, tuple]]:
    """Each predictor with what it returns, block by block and through the head."""
    stem, head = model.backbone, model.decode_head
    x = stem.maxpool(stem.relu(stem.norm1(stem.conv1(x))))
    for name in stem.res_layers:
        for block in getattr(stem, name):
            yield block.predictor, block.predictor(x)
            x = block(x)
    features = x
    for module in head.convs:
        yield module.conv.predictor, module.conv.predictor(x)
        x = module(x)
    predictor = head.conv_cat.conv.predictor
    yield predictor, predictor(torch.cat([features, x], dim=1))


def mean(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(tensors).mean(0)


def coefficients(model: EncoderDecoder, *images: Tensor) -> list[Tensor]:
    """Those of an image, or the mean over several."""
    each = [
        [layer for _, layers in walk(model, image) for layer in layers]
        for image in images
    ]
    return [mean(layer) for layer in zip(*each, strict=True)]


def with_kernels_of(model: EncoderDecoder, *images: Tensor) -> EncoderDecoder:
    """A copy whose predictors return for any image what they do for these, averaged."""
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


def by_hand(mode: str, trial: Trial) -> tuple[float, float]:
    """The mIoU of a mode, and its coefficients' mean difference."""
    model, images = trial.model, images_of(trial)
    sources = {  # which images, or part of one, the kernels come from
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
        for layers in used:
            for layer, reference in zip(layers, whole, strict=True):
                differences.append((layer - reference).abs().mean().item())
    truths = [
        sample["data_samples"].gt_sem_seg.data[0].numpy() for sample in trial.dataset
    ]
    return mean_iou(labels, truths), np.mean(differences)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_what_it_is_by_hand(mode, dynamic, compared):
    with torch.no_grad():
        expected_iou, expected_difference = by_hand(mode, dynamic)
        image = images_of(dynamic)[0]
        assert len(coefficients(dynamic.model, image)) == 8 * 2 + 3
    result = compared[mode]
    # The metric rounds to two digits.
    assert result.metrics["mIoU"] == pytest.approx(expected_iou, abs=0.0051)
    assert result.coefficient_difference == pytest.approx(
        expected_difference, rel=1e-4, abs=0
    )


def test_modes_come_in_order_and_differ(compared):
    assert tuple(compared) == MODES
    assert len({result.metrics["mIoU"] for result in compared.values()}) == len(MODES)
    moved = {mode: r.coefficient_difference for mode, r in compared.items()}
    assert moved.pop(WHOLE) == moved.pop(WHOLE_KERNELS) == 0
    assert min(moved.values()) > 0.01


def test_a_crop_of_the_whole_image_changes_nothing(dynamic):
    results = dynamic.compare(crop_size=IMAGE, reuse=())
    assert tuple(results) == (WHOLE, SLIDING, WHOLE_KERNELS, CENTRE_CROP, MEAN)
    assert results.pop(MEAN) != results[WHOLE]
    assert all(result == results[WHOLE] for result in results.values())
    assert results[WHOLE].coefficient_difference == 0


def test_constant_predictors_move_in_no_mode(dynamic):
    constant = deepcopy(dynamic)
    for predictor in predictors(constant.model):
        predictor.logits.weight.data.zero_()
    results = constant.compare()
    assert tuple(results) == MODES
    assert {result.coefficient_difference for result in results.values()} == {0}
    sliding = results.pop(SLIDING)
    assert sliding == results.pop(WHOLE_KERNELS)
    assert all(result == results[WHOLE] for result in results.values())
    assert sliding != results[WHOLE]  # whose windows end at borders of their own


def test_a_static_network_has_no_kernels_to_keep(static):
    results = static.compare()
    assert tuple(results) == (WHOLE, SLIDING)
    assert all(result.coefficient_difference is None for result in results.values())


def test_the_model_comes_back_as_it_was(dynamic):
    model = dynamic.model
    modules, test_cfg = list(model.modules()), model.test_cfg
    attributes = [set(vars(module)) for module in modules]
    dynamic.compare()
    with pytest.raises(ZeroDivisionError):
        handle = model.register_forward_pre_hook(lambda *_: 1 / 0)
        try:
            dynamic.compare()
        finally:
            handle.remove()
    assert model.test_cfg is test_cfg
    assert [set(vars(module)) for module in modules] == attributes
    assert not any(module._forward_hooks for module in modules)


@pytest.mark.parametrize("crop_size", [(129, 256), (128, 257), (0, 16)])
def test_a_crop_that_no_image_holds_is_refused(crop_size, static):
    height, width = crop_size
    message = f"crop of {height} x {width} .* no larger than image 0 .*, 128 x 256"
    with pytest.raises(ValueError, match=message):
        static.compare(crop_size)


def test_reuse_below_2_is_refused(static):
    with pytest.raises(ValueError, match="reuse=1 must be at least 2"):
        static.compare(reuse=(5, 1))


def test_an_evaluator_without_miou_is_refused(static, tmp_path):
    metric = dict(type="IoUMetric", format_only=True, output_dir=str(tmp_path))
    static.evaluator = Evaluator(metric)
    with pytest.raises(ValueError, match="nothing, but no mIoU"):
        static.compare()
