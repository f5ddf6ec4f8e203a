"""Do the coefficients vary: does a dynamic network treat images differently?

A layer with the same coefficients for every image is a static convolution at the price
of a dynamic one, and a fixed kernel whose coefficient stays near 0 is never used.

Shape legend: see :mod:`mmseg_dynet.ops.functional`. An *image* is one of the B images
in a call of the layer; in slide inference each window is one.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmseg_dynet.ops import DyConv2d

DEAD_BELOW = 0.05
SATURATED_ABOVE = 0.95
SCALARS = ("mean", "between_image_std", "between_image_share", "dead", "saturated")


@dataclass(frozen=True)
class CoefficientSummary:
    """The coefficients that are predicted for one dynamic layer, over all images.

    The coefficient of a static kernel, which is always 1, is left out.

    Attributes:
        num_images: Images that were seen.
        out_channels: O.
        num_kernels: Fixed kernels per output channel with a predicted coefficient: K,
            or K - 1 beside a static kernel.
        mean: Mean over images, channels and kernels, as are all values below.
        total_std: Standard deviation.
        between_image_std: Standard deviation of each coefficient over the images,
            averaged over the O * K coefficients.
        between_image_share: between_image_std / total_std, 0 .. 1. At 0 coefficients
            are constants, however much they differ from each other.
        dead: Share of the O * K fixed kernels, 0 .. 1, whose coefficient is below 0.05,
            signs aside, on every image.
        saturated: Share of those above 0.95, signs aside, on every image.
    """

    num_images: int
    out_channels: int
    num_kernels: int
    mean: float
    total_std: float
    between_image_std: float
    between_image_share: float
    dead: float
    saturated: float


class CoefficientRecorder(AbstractContextManager):
    """Record the coefficients that a network's dynamic layers use; a context manager.

    Memory does not grow with the number of images: each layer takes five arrays (O, K).
    Layers are hooked, not changed; :meth:`remove`, or the end of the ``with`` block,
    removes the hooks and keeps the record. A compiled network that has run ignores it.

    Raises:
        ValueError: The network has no dynamic layer.

    Example:
        >>> with CoefficientRecorder(model) as recorder:
        ...     for images in batches:
        ...         model(images)
        >>> recorder.summarize()["backbone.layer1.0.conv1"].between_image_std
    """

    def __init__(self, model: nn.Module) -> None:
        layers = dynamic_layers(model)
        if not layers:
            raise ValueError(
                f"{type(model).__name__} is static (no DyConv2d), so it has no "
                "coefficients: take a dynamic network, or do not record them"
            )
        self._statistics, self._hooks = {}, []
        for name, layer in layers.items():
            self._statistics[name] = _Statistics(layer)
            self._hooks += _hook(layer, self._statistics[name])

    def summarize(self) -> dict[str, CoefficientSummary]:
        """Summarise each layer that has run, by its dotted name.

        Raises:
            ValueError: A layer has seen one image only, or none has seen any.
        """
        ran = {name: s for name, s in self._statistics.items() if s.num_images}
        num_images = min((s.num_images for s in ran.values()), default=0)
        if num_images < 2:
            raise ValueError(
                f"variation between images takes at least 2 images, got {num_images}"
            )
        return {name: statistics.summarize() for name, statistics in ran.items()}

    def means(self) -> dict[str, Tensor]:
        """The mean coefficients (O, K) of each layer that has run, by its name."""
        return {name: s.mean for name, s in self._statistics.items() if s.num_images}

    def remove(self) -> None:
        """Stop recording. Further calls do nothing."""
        for hook in self._hooks:
            hook.remove()

    def __exit__(self, *_: object) -> None:
        """Stop recording."""
        self.remove()


def dynamic_layers(model: nn.Module) -> dict[str, DyConv2d]:
    """The dynamic layers of a network by their dotted names; empty if it is static."""
    return {n: m for n, m in model.named_modules() if isinstance(m, DyConv2d)}


def average(layers: Mapping[str, CoefficientSummary]) -> dict[str, float]:
    """Average the scalars of layers, each weighted by its O * K fixed kernels.

    Thus "dead" becomes the share of all fixed kernels of the network.
    """
    weights = {n: s.out_channels * s.num_kernels for n, s in layers.items()}
    total = sum(weights.values())
    return {
        scalar: sum(weights[n] * getattr(s, scalar) for n, s in layers.items()) / total
        for scalar in SCALARS
    }


class _Statistics:
    """Sums over the images of one layer, to be summarised."""

    def __init__(self, layer: DyConv2d) -> None:
        self.num_images = 0
        self._num_static = int(layer.options.static_kernel)
        shape = (layer.out_channels, layer.num_kernels)
        # Sums are taken of differences from the first image: exactly 0 for a constant.
        self._first = torch.zeros(shape, dtype=torch.float64)
        self._sum = torch.zeros_like(self._first)
        self._sum_of_squares = torch.zeros_like(self._first)
        self._min = torch.full_like(self._first, torch.inf)
        self._max = torch.full_like(self._first, -torch.inf)

    def add(self, coeff: Tensor) -> None:
        """Add coefficients (B, O, K)."""
        coeff = coeff.detach().cpu().double()
        if not len(coeff):
            return
        if self.num_images == 0:
            self._first = coeff[0].clone()
        self.num_images += len(coeff)
        differences = coeff - self._first
        self._sum += differences.sum(0)
        self._sum_of_squares += differences.square().sum(0)
        self._min = self._min.minimum(coeff.abs().amin(0))
        self._max = self._max.maximum(coeff.abs().amax(0))

    @property
    def mean(self) -> Tensor:
        return self._first + self._sum / self.num_images

    def summarize(self) -> CoefficientSummary:
        difference = self._sum / self.num_images  # (O, K), as all below
        variance = self._sum_of_squares / self.num_images - difference.square()
        variance = variance.clamp(min=0)  # rounding may leave less
        mean, variance, low, high = (
            values[:, self._num_static :]
            for values in (self.mean, variance, self._min, self._max)
        )
        # The total variance is that within the coefficients plus that between them.
        total_std = (variance.mean() + mean.var(correction=0)).sqrt().item()
        between_image_std = variance.sqrt().mean().item()
        out_channels, num_kernels = mean.shape
        return CoefficientSummary(
            num_images=self.num_images,
            out_channels=out_channels,
            num_kernels=num_kernels,
            mean=mean.mean().item(),
            total_std=total_std,
            between_image_std=between_image_std,
            between_image_share=between_image_std / total_std if total_std else 0.0,
            dead=(high < DEAD_BELOW).double().mean().item(),
            saturated=(low > SATURATED_ABOVE).double().mean().item(),
        )


def _hook(layer: DyConv2d, statistics: _Statistics) -> Iterator:
    """Hook what a layer is given, and what its own predictor, if any, predicts for it.

    A block's predictor serves several layers, which are given its coefficients.
    """

    def given(_: nn.Module, args: tuple, kwargs: dict) -> None:
        coeff = args[1] if len(args) > 1 else kwargs.get("coeff")
        if coeff is not None:
            statistics.add(coeff)

    def predicted(_: nn.Module, __: tuple, coeffs: tuple) -> None:
        statistics.add(*coeffs)

    yield layer.register_forward_pre_hook(given, with_kwargs=True)
    if layer.predictor is not None:
        yield layer.predictor.register_forward_hook(predicted)
