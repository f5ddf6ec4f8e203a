"""How far coefficients and accuracy move with the pixels that a network pools over.

A predictor averages its whole input. In training that is a crop; in a test it is a
whole image, a window of one or, when kernels are kept in a video, an earlier frame. The
same trained segmentor is evaluated in each of these modes, and its coefficients are
compared with those of the whole image.

Shape legend: see :mod:`mmseg_dynet.ops.functional`; further, an image is seen in N
windows: several in a sliding window, else one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from statistics import fmean

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmseg.models.segmentors import BaseSegmentor
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmseg_dynet.deploy import KernelReuse
from mmseg_dynet.ops import CoefficientPredictor

WHOLE = "whole image"
SLIDING = "sliding window"
WHOLE_KERNELS = "sliding window, kernels of the whole image"
CENTRE_CROP = "whole image, kernels of a centre crop"
MEAN = "whole image, mean coefficients"
KEPT = "whole image, kernels kept for {} frames"

# From preprocessed images (B, 3, H, W) and their data samples to predictions.
Predict = Callable[[Tensor, list], list]
Mode = AbstractContextManager[Predict]
# Of one image: of each predictor, (N, O, K) for each dynamic layer that it serves.
Coefficients = dict[nn.Module, list[Tensor]]


@torch.no_grad()
def compare_inference_modes(
    model: BaseSegmentor,
    dataset: Dataset,
    evaluator: Evaluator,
    crop_size: tuple[int, int],
    reuse: Sequence[int] = (),
) -> dict[str, dict]:
    """Evaluate a segmentor in each mode of inference.

    Images are taken one at a time, in the order of the data set, once per mode. The
    coefficients of all whole images are held in memory: 0.3 MB per image for
    Dy-ResNet-50.

    Args:
        model: A trained segmentor in eval mode.
        dataset: Labelled images.
        evaluator: With a metric that returns mIoU.
        crop_size: (H, W) in pixels of the windows and of the centre crop, no larger
            than the images. Windows are at most two thirds of a window apart.
        reuse: For how many frames kernels are kept, each number another mode. The
            images are taken for the frames of a video.

    Returns:
        By mode, "metrics" and "coefficient_difference", the mean distance of a
        coefficient from that of the whole image (None for a static network). A static
        network is tested on whole images and in windows only.
    """
    evaluator.dataset_meta = dataset.metainfo
    predictors = [m for m in model.modules() if isinstance(m, CoefficientPredictor)]

    def run(name: str, mode: Mode) -> tuple[dict, list[Coefficients]]:
        found: list[Coefficients] = []
        with mode as predict, _recorded(predictors) as calls:
            for index in track(range(len(dataset)), name, transient=True):
                data = model.data_preprocessor(pseudo_collate([dataset[index]]))
                calls.clear()
                evaluator.process(predict(**data))
                # None is predicted where kernels are kept.
                found.append(_join_windows(calls) if calls or not found else found[-1])
        metrics = evaluator.evaluate(len(dataset))
        return {key: float(value) for key, value in metrics.items()}, found

    whole_metrics, whole = run(WHOLE, _tested(model, mode="whole"))
    results = {WHOLE: (whole_metrics, whole)}
    results[SLIDING] = run(SLIDING, _sliding(model, crop_size))
    if predictors:
        centre = partial(_centre_crop, size=crop_size)
        modes = {
            WHOLE_KERNELS: _kernels_of(model, lambda x: x, _sliding(model, crop_size)),
            CENTRE_CROP: _kernels_of(model, centre, _tested(model, mode="whole")),
            MEAN: _constant(model, _mean(whole)),
        }
        for every in reuse:
            modes[KEPT.format(every)] = _kept(model, every)
        results |= {name: run(name, mode) for name, mode in modes.items()}
    return {
        name: dict(metrics=metrics, coefficient_difference=_difference(found, whole))
        for name, (metrics, found) in results.items()
    }


def sliding_stride(crop_size: tuple[int, int]) -> tuple[int, int]:
    """Return the step in pixels between windows (H, W): two thirds of a window."""
    height, width = crop_size
    return round(2 * height / 3), round(2 * width / 3)


@contextmanager
def _tested(model: BaseSegmentor, **test_cfg: object) -> Iterator[Predict]:
    before = model.test_cfg
    model.test_cfg = ConfigDict({**before, **test_cfg})
    try:
        yield partial(model, mode="predict")
    finally:
        model.test_cfg = before


def _sliding(model: BaseSegmentor, crop_size: tuple[int, int]) -> Mode:
    stride = sliding_stride(crop_size)
    return _tested(model, mode="slide", crop_size=crop_size, stride=stride)


@contextmanager
def _kernels_of(
    model: BaseSegmentor, part: Callable[[Tensor], Tensor], mode: Mode
) -> Iterator[Predict]:
    """Another mode, all of whose kernels come from one part of the image."""
    with mode as predict, KernelReuse(model, every=2):

        def predict_in_two_frames(inputs: Tensor, data_samples: list) -> list:
            model(part(inputs), mode="tensor")  # the key frame, never in windows
            return predict(inputs, data_samples)

        yield predict_in_two_frames


def _centre_crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((a - b) // 2 for a, b in zip(images.shape[2:], size, strict=True))
    return images[:, :, top : top + size[0], left : left + size[1]]


@contextmanager
def _constant(model: BaseSegmentor, coefficients: Coefficients) -> Iterator[Predict]:
    """The whole image, with given coefficients instead of predicted ones."""

    def replace(predictor: nn.Module, inputs: tuple, _: tuple) -> tuple[Tensor, ...]:
        return tuple(layer.to(inputs[0].device) for layer in coefficients[predictor])

    hooks = [p.register_forward_hook(replace) for p in coefficients]
    try:
        with _tested(model, mode="whole") as predict:
            yield predict
    finally:
        for hook in hooks:
            hook.remove()


def _mean(images: Sequence[Coefficients]) -> Coefficients:
    """The mean over images, each in one window: (1, O, K) per layer."""
    return {
        predictor: [
            torch.cat(layer).mean(0, keepdim=True)
            for layer in zip(*(image[predictor] for image in images), strict=True)
        ]
        for predictor in images[0]
    }


@contextmanager
def _kept(model: BaseSegmentor, every: int) -> Iterator[Predict]:
    with _tested(model, mode="whole") as predict, KernelReuse(model, every):
        yield predict


@contextmanager
def _recorded(predictors: Sequence[nn.Module]) -> Iterator[dict]:
    """Record what each predictor returns, one tuple of (B, O, K) per call."""
    calls = defaultdict(list)

    def record(predictor: nn.Module, _: tuple, coeffs: tuple) -> None:
        if coeffs[0] is not None:
            calls[predictor].append(coeffs)

    hooks = [predictor.register_forward_hook(record) for predictor in predictors]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _join_windows(calls: Mapping[nn.Module, list[tuple]]) -> Coefficients:
    """Join the windows of one image: from N times (1, O, K) to (N, O, K) per layer."""
    return {
        predictor: [torch.cat(windows).cpu() for windows in zip(*layers, strict=True)]
        for predictor, layers in calls.items()
    }


def _difference(
    images: Sequence[Coefficients], whole: Sequence[Coefficients]
) -> float | None:
    """Mean |difference| over windows, layers and images; None without a layer."""
    distances = [
        (layer - reference).abs().mean().item()
        for image, references in zip(images, whole, strict=True)
        for predictor, layers in image.items()
        for layer, reference in zip(layers, references[predictor], strict=True)
    ]
    return fmean(distances) if distances else None
