"""How far coefficients and accuracy move with the pixels that a network pools over.

A predictor averages its whole input. In training that comes from a crop; at inference
from a whole image, a window of one, or, when kernels are kept in a video, from an
earlier frame. The same trained segmentor is evaluated in each of these modes, and its
coefficients are compared with those of the whole image.

Shape legend: see :mod:`mmseg_dynet.ops.functional`; further, an image is seen in N
windows: several in a sliding window, else one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmseg.models.segmentors import BaseSegmentor
from prettytable import PrettyTable
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


@dataclass(frozen=True)
class ModeResult:
    """What one mode comes to.

    Attributes:
        metrics: Those of the evaluator; mIoU is among them, in percent.
        coefficient_difference: Mean distance of a coefficient from that of the whole
            image, over a layer's coefficients and the windows of an image, averaged
            over layers and images. None for a static network.
    """

    metrics: dict[str, float]
    coefficient_difference: float | None


@torch.no_grad()
def compare_inference_modes(
    model: BaseSegmentor,
    dataset: Dataset,
    evaluator: Evaluator,
    crop_size: tuple[int, int],
    reuse: Sequence[int] = (),
) -> dict[str, ModeResult]:
    """Evaluate a segmentor in each mode of inference.

    Images are taken one at a time, in the order of the data set, once a mode. The
    coefficients of all whole images are held in memory: 0.3 MB an image for
    Dy-ResNet-50.

    Args:
        model: A trained segmentor in eval mode. Its ``test_cfg`` gives way to each
            mode's, and comes back.
        dataset: Labelled images, of the pipeline that the model is tested with.
        evaluator: With a metric that gives mIoU.
        crop_size: (H, W) in pixels of the windows and of the centre crop: the crop that
            the model was trained with. Windows overlap by a third, the last ones of a
            row or column by more.
        reuse: For how many frames kernels are kept, each number a mode of its own. The
            images are taken for the frames of one video.

    Returns:
        Results by mode: "whole image" first, "sliding window" and, of a dynamic
        network, "sliding window, kernels of the whole image" (what windows do without
        kernels of their own), "whole image, kernels of a centre crop" (the whole image
        convolved with the kernels that its centre gave: what the pool does, without
        what borders do), "whole image, mean coefficients" (those of all whole images
        for each: what is left without any dynamics), and "whole image, kernels kept for
        N frames" for each N of ``reuse``.

    Raises:
        ValueError: A number of ``reuse`` is below 2, ``crop_size`` is larger than an
            image, or the evaluator gives no mIoU.
    """
    _check_reuse(reuse)
    evaluator.dataset_meta = dataset.metainfo

    def run(mode: Mode, name: str) -> Iterator[Coefficients]:
        with mode as predict:
            images = _preprocessed(model, dataset, crop_size, name)
            yield from _predict_each(model, images, evaluator, predict)

    def result(coefficients: Iterable[Coefficients]) -> ModeResult:
        pairs = zip(coefficients, whole, strict=True)
        differences = [d for pair in pairs for d in _layer_differences(*pair)]
        return ModeResult(
            _evaluate(evaluator, len(dataset)),
            fmean(differences) if differences else None,
        )

    whole = list(run(_whole(model), WHOLE))
    results = {WHOLE: result(whole)}
    for name, mode in _other_modes(model, crop_size, reuse, whole).items():
        results[name] = result(run(mode, name))
    return results


def tabulate(report: Mapping) -> PrettyTable:
    """A row a mode.

    Args:
        report: As ``tools/analysis_tools/inference_modes.py --json`` writes it.
    """
    (height, width), stride = report["crop"], report["stride"]
    table = PrettyTable(
        ["", "mIoU, %", "vs whole image", "coefficients, mean abs. change"], align="r"
    )
    table.title = (
        f"{Path(report['config']).stem}, {report['images']} images, crop {height} x "
        f"{width}, stride {stride[0]} x {stride[1]}"
    )
    table.align[""] = "l"
    for name, mode in report["modes"].items():
        moved = mode["coefficient_difference"]
        table.add_row([
            name, f"{mode['metrics']['mIoU']:.2f}", f"{mode['mIoU_change']:+.2f}",
            "-" if moved is None else f"{moved:.4f}",
        ])  # fmt: skip
    return table


def sliding_stride(crop_size: tuple[int, int]) -> tuple[int, int]:
    """The step in pixels between windows (H, W): two thirds of a window."""
    height, width = crop_size
    return round(2 * height / 3), round(2 * width / 3)


def _check_reuse(reuse: Iterable[int]) -> None:
    for every in reuse:
        if every < 2:
            raise ValueError(
                f"reuse={every} must be at least 2, the number of frames that share "
                "their kernels; 1 is the whole image, which is always evaluated"
            )


def _check_crop(
    crop_size: tuple[int, int], image_size: tuple[int, int], index: int
) -> None:
    (height, width), (image_height, image_width) = crop_size, image_size
    if not (0 < height <= image_height and 0 < width <= image_width):
        raise ValueError(
            f"a crop of {height} x {width} pixels must be at least 1 x 1 and no larger "
            f"than image {index} of the data, {image_height} x {image_width}"
        )


def _other_modes(
    model: BaseSegmentor,
    crop_size: tuple[int, int],
    reuse: Sequence[int],
    coefficients: Sequence[Coefficients],
) -> dict[str, Mode]:
    modes = {SLIDING: _sliding(model, crop_size)}
    if _predictors(model):
        sliding, whole = _sliding(model, crop_size), _whole(model)
        centre = partial(_centre_crop, crop_size=crop_size)
        modes[WHOLE_KERNELS] = _with_kernels_of(model, lambda images: images, sliding)
        modes[CENTRE_CROP] = _with_kernels_of(model, centre, whole)
        modes[MEAN] = _constant(model, _mean(coefficients))
        modes |= {KEPT.format(every): _kept_kernels(model, every) for every in reuse}
    return modes


@contextmanager
def _tested_with(model: BaseSegmentor, **test_cfg: object) -> Iterator[Predict]:
    before = model.test_cfg
    model.test_cfg = ConfigDict({**before, **test_cfg})
    try:
        yield partial(model, mode="predict")
    finally:
        model.test_cfg = before


def _whole(model: BaseSegmentor) -> Mode:
    return _tested_with(model, mode="whole")


def _sliding(model: BaseSegmentor, crop_size: tuple[int, int]) -> Mode:
    stride = sliding_stride(crop_size)
    return _tested_with(model, mode="slide", crop_size=crop_size, stride=stride)


@contextmanager
def _with_kernels_of(
    model: BaseSegmentor, part: Callable[[Tensor], Tensor], mode: Mode
) -> Iterator[Predict]:
    """A mode all of whose kernels come from one part of the image."""
    with mode as predict, KernelReuse(model, every=2):

        def predict_in_two_frames(inputs: Tensor, data_samples: list) -> list:
            model(part(inputs), mode="tensor")  # the key frame, never in windows
            return predict(inputs, data_samples)

        yield predict_in_two_frames


@contextmanager
def _constant(model: BaseSegmentor, coefficients: Coefficients) -> Iterator[Predict]:
    """The whole image, with given coefficients in place of predicted ones."""

    def replace(predictor: nn.Module, inputs: tuple, _: tuple) -> tuple[Tensor, ...]:
        return tuple(layer.to(inputs[0].device) for layer in coefficients[predictor])

    hooks = [p.register_forward_hook(replace) for p in coefficients]
    try:
        with _whole(model) as predict:
            yield predict
    finally:
        for hook in hooks:
            hook.remove()


def _mean(images: Sequence[Coefficients]) -> Coefficients:
    """The mean over images, each in one window: (1, O, K) a layer."""
    return {
        predictor: [
            torch.cat(layer).mean(0, keepdim=True)
            for layer in zip(*(image[predictor] for image in images), strict=True)
        ]
        for predictor in images[0]
    }


@contextmanager
def _kept_kernels(model: BaseSegmentor, every: int) -> Iterator[Predict]:
    with _whole(model) as predict, KernelReuse(model, every):
        yield predict


def _centre_crop(images: Tensor, crop_size: tuple[int, int]) -> Tensor:
    height, width = crop_size
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


def _preprocessed(
    model: BaseSegmentor, dataset: Dataset, crop_size: tuple[int, int], description: str
) -> Iterator[dict]:
    """The images as the model takes them: inputs (1, 3, H, W) and data samples."""
    for index in track(range(len(dataset)), description, transient=True):
        images = model.data_preprocessor(pseudo_collate([dataset[index]]))
        _check_crop(crop_size, images["inputs"].shape[2:], index)
        yield images


def _predict_each(
    model: BaseSegmentor,
    images: Iterable[dict],
    evaluator: Evaluator,
    predict: Predict,
) -> Iterator[Coefficients]:
    """Hand predictions to the evaluator, and yield the coefficients behind them."""
    coefficients = {}
    with _recorded(model) as calls:
        for image in images:
            calls.clear()
            evaluator.process(predict(**image))
            # None is predicted where kernels are kept.
            coefficients = _join_windows(calls) or coefficients
            yield coefficients


@contextmanager
def _recorded(model: nn.Module) -> Iterator[dict[nn.Module, list[tuple]]]:
    """Record what each predictor returns, one tuple of (B, O, K) a call."""
    calls = defaultdict(list)

    def record(predictor: nn.Module, _: tuple, coeffs: tuple) -> None:
        if coeffs[0] is not None:
            calls[predictor].append(coeffs)

    hooks = [p.register_forward_hook(record) for p in _predictors(model)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _join_windows(calls: Mapping[nn.Module, list[tuple]]) -> Coefficients:
    """Join the windows of one image: from N times (1, O, K) to (N, O, K) a layer."""
    return {
        predictor: [torch.cat(windows).cpu() for windows in zip(*layers, strict=True)]
        for predictor, layers in calls.items()
    }


def _layer_differences(coefficients: Coefficients, whole: Coefficients) -> list[float]:
    """Mean |difference| of each layer, (N, O, K) against (1, O, K)."""
    return [
        (layer - reference).abs().mean().item()
        for predictor, layers in coefficients.items()
        for layer, reference in zip(layers, whole[predictor], strict=True)
    ]


def _evaluate(evaluator: Evaluator, num_images: int) -> dict[str, float]:
    metrics = {k: float(value) for k, value in evaluator.evaluate(num_images).items()}
    if "mIoU" not in metrics:
        raise ValueError(
            f"the evaluator gives {', '.join(metrics) or 'nothing'}, but no mIoU: test "
            "on labelled images with IoUMetric"
        )
    return metrics


def _predictors(model: nn.Module) -> list[CoefficientPredictor]:
    return [m for m in model.modules() if isinstance(m, CoefficientPredictor)]
