"""From the weights of a static network to a dynamic network that computes the same.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.

A predictor whose last layer is zero gives every coefficient sigmoid(0) = 1/2, whatever
the image. These fuse the bank

    w_k = (2 / K) w + d_k,    sum_k d_k = 0

to sum_k w_k / 2 = w: the dynamic network of the same width begins as the static one
whose kernels are the w, and its coefficients and kernels are free from there.

The d_k must not be zero. Where G_b is the gradient of the fused kernel of image b, that
of w_k is sum_b coeff_bk G_b, and that of coeff_bk is the product of G_b and w_k. Equal
kernels with equal coefficients so get equal gradients: they would stay equal for ever,
and K of them be worth one. Hence, with normal draws z and the root mean square r of w
in its output channel,

    d_k = noise * (2 / sqrt(K)) * r * (z_k - mean of z)

At noise 1 this is the bank as DyConv2d draws it, K kernels of 2 / sqrt(K) times the
static deviation, given that it fuses to w; so the learning rates and weight decay of a
dynamic network fit. A step of gradient descent moves the fused kernel by K / 4 of what
it would move the static one: K kernels, each with half of the gradient, each counted
by half.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmseg_dynet.messages import some
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

from .static_layouts import KNOWN, Twin, recognise
from .validation import check_positive

PREFIX = "backbone."
# A classifier behind a backbone whose names have no prefix.
CLASSIFIERS = ("fc.", "classifier.")


@dataclass(frozen=True)
class Conversion:
    """A dynamic network, and what became of a static one's weights.

    Attributes:
        source: What was recognised, in words.
        backbone: The dynamic backbone, as a config. Strides, dilations and output
            indices are free: no weight depends on them.
        state_dict: Its weights after ``backbone.``, and those that the static network
            had beside its backbone.
        passed: Names of the latter.
        left_out: Names that were left out: a classifier of torchvision's.
        mmpretrain_backbone: The backbone if the static network is mmpretrain's, where
            no weight tells it from MMSegmentation's, and they differ; else None.
    """

    source: str
    backbone: dict
    state_dict: dict[str, Tensor]
    passed: tuple[str, ...]
    left_out: tuple[str, ...]
    mmpretrain_backbone: dict | None


def to_dynamic(
    weights: Mapping[str, Tensor],
    num_kernels: int = 6,
    noise: float = 1.0,
    seed: int = 0,
) -> Conversion:
    """Convert the weights of a backbone, a classifier or a segmentor.

    Args:
        weights: By name. If some have the prefix ``backbone.``, they are converted, and
            the others passed on; else all of them are the backbone's.
        num_kernels: K, the fixed kernels an output channel owns (the paper's g_t).
        noise: How far the kernels lie apart; 1 is as far as those that DyConv2d draws.
        seed: Of the noise, and of the hidden layers of predictors.

    Returns:
        The weights of the dynamic network of the same width.

    Raises:
        ValueError: The network is not known; a weight of it is missing, has another
            shape or is one too many; or an option is out of its range.
    """
    check_positive(num_kernels=num_kernels, noise=noise)
    static = {
        name.removeprefix(PREFIX): weight
        for name, weight in weights.items()
        if name.startswith(PREFIX)
    }
    passed = {n: w for n, w in weights.items() if static and not n.startswith(PREFIX)}
    static = static or dict(weights)
    twin = recognise(static, num_kernels)
    left_out = [name for name in static if name.startswith(CLASSIFIERS)]
    for name in left_out:
        del static[name]

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        dynamic = _fill(twin, static, num_kernels, noise)
    dynamic = {PREFIX + name: weight for name, weight in dynamic.items()}
    return Conversion(
        twin.source,
        twin.backbone,
        dynamic | passed,
        tuple(passed),
        tuple(left_out),
        twin.mmpretrain_backbone,
    )


def bank_around(kernel: Tensor, num_kernels: int, noise: float) -> Tensor:
    """Draw a bank that coefficients of 1/2 fuse to a given kernel.

    Args:
        kernel: w, (O, C/G, kH, kW).
        num_kernels: K.
        noise: As in :func:`to_dynamic`; 0 gives K equal kernels.

    Returns:
        (O, K, C/G, kH, kW).
    """
    kernel = kernel.float().unsqueeze(1)
    z = torch.randn_like(kernel.expand(-1, num_kernels, -1, -1, -1))
    z = z - z.mean(1, keepdim=True)
    size = kernel.square().mean((2, 3, 4), keepdim=True).sqrt()  # (O, 1, 1, 1, 1)
    return 2 / num_kernels * kernel + noise * 2 / math.sqrt(num_kernels) * size * z


def _fill(
    twin: Twin, static: Mapping[str, Tensor], num_kernels: int, noise: float
) -> dict[str, Tensor]:
    """Give the dynamic network the static one's weights.

    Raises:
        ValueError: They do not fit one to one.
    """
    banks, drawn = set(), set()
    for name, module in twin.network.named_modules():
        if isinstance(module, DyConv2d):
            banks.add(f"{name}.weight")
        if isinstance(module, CoefficientPredictor):
            _draw(module.to_empty(device="cpu"))
            drawn.update(f"{name}.{weight}" for weight in module.state_dict())
    dynamic = twin.network.state_dict()
    sources = {name: twin.static_name(name) for name in dynamic if name not in drawn}
    _check(
        twin.source,
        static,
        {
            source: (dynamic[name][:, 0] if name in banks else dynamic[name]).shape
            for name, source in sources.items()
        },
    )
    for name, source in sources.items():
        # Old checkpoints lack the counters of batches.
        weight = static.get(source, torch.tensor(0))
        if name in banks:
            weight = bank_around(weight, num_kernels, noise)
        dynamic[name] = weight
    return dict(dynamic)


def _draw(predictor: CoefficientPredictor) -> None:
    """Draw a predictor whose coefficients are 1/2 whatever the image."""
    if predictor.hidden is not None:
        predictor.hidden.reset_parameters()
    nn.init.zeros_(predictor.logits.weight)
    nn.init.zeros_(predictor.logits.bias)


def _check(
    source: str, given: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]
) -> None:
    """Raise a ValueError unless the weights given are those wanted.

    Args:
        source: What the weights were taken for.
        given: By name.
        wanted: Shapes by name; counters of batches may be missing.
    """
    problems = {
        "missing": [
            name
            for name in wanted
            if name not in given and not name.endswith("num_batches_tracked")
        ],
        "unknown": [name for name in given if name not in wanted],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(shape)}"
            for name, shape in wanted.items()
            if name in given and given[name].shape != shape
        ],
    }
    found = [f"{len(v)} {kind}: {some(v)}" for kind, v in problems.items() if v]
    if found:
        raise ValueError(
            f"the weights were taken for {source}, but they do not fit it; "
            f"{'; '.join(found)}. Known are {KNOWN}. Give the weights of such a "
            "network, or rename them to one of these layouts"
        )
