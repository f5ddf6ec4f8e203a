"""From the weights of a static network to a dynamic network that computes the same.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.

A predictor whose last layer is zero predicts the same coefficient c for any image, 1/2
by a sigmoid. Let w be a static kernel, r the root mean square of w in its output
channel, and z standard normal. Then the bank

    w_k = w / (c K) + r * (z_k - mean of z) / (c sqrt(K))

fuses to sum_k c w_k = w: the dynamic network starts as the static one, and can then
diverge from it. Kernels differ as much as DyConv2d initialises them, so learning rates
and weight decay fit. Equal kernels with equal coefficients would get equal gradients
and stay equal: K of them would act as one.
With ``static_kernel``, kernel 0 is w, the others are zero, and predictors are random.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

from .backbones.dy_mobilenet_v2 import DyMobileNetV2
from .backbones.dy_mobilenet_v3 import DyMobileNetV3
from .backbones.dy_resnet import DyResNet
from .blocks import DyBottleneck

PREFIX = "backbone."
# A classifier behind a backbone whose names have no prefix.
CLASSIFIERS = ("fc.", "classifier.")
STEMS = ("conv1.", "stem.", "layer0.", "features.0.")
# Of a batch norm; old checkpoints lack it.
COUNTER = "num_batches_tracked"
KNOWN = (
    "ResNet, ResNetV1c and ResNetV1d 18, 34, 50, 101, MobileNetV2 and MobileNetV3 "
    "small and large (of width 1), as torchvision, MMSegmentation and mmpretrain save "
    "them, with or without the prefix backbone."
)
# A weight that only one layout has.
MARKS = {
    "layer1.0.conv1.weight": ("", DyResNet),
    "conv1.conv.weight": ("OpenMMLab's ", DyMobileNetV2),
    "features.1.conv.0.0.weight": ("torchvision's ", DyMobileNetV2),
    "layer0.conv.weight": ("OpenMMLab's ", DyMobileNetV3),
    "features.1.block.0.0.weight": ("torchvision's ", DyMobileNetV3),
}
DEPTHS = {
    (block is DyBottleneck, blocks): depth
    for depth, (block, blocks) in DyResNet.arch_settings.items()
}
# What torchvision's and mmpretrain's MobileNetV3 need of DyMobileNetV3, whose defaults
# are MMSegmentation's. No weight shows the difference.
CLASSIFIER_V3 = dict(
    norm_cfg=dict(type="BN", eps=0.001, momentum=0.01), same_padding=False
)


@dataclass(frozen=True)
class Conversion:
    """A dynamic network, and what became of a static one's weights.

    Attributes:
        source: The static network that was recognised, in words.
        backbone: The dynamic backbone, as a config. Strides, dilations and output
            indices are free: no weight depends on them.
        state_dict: Weights to save: the backbone's under ``backbone.``, and, unchanged,
            those that a segmentor or classifier had outside of its backbone.
        mmpretrain_backbone: The backbone if the static network is mmpretrain's, where
            its weights look like MMSegmentation's although the two differ; else None.
    """

    source: str
    backbone: dict
    state_dict: dict[str, Tensor]
    mmpretrain_backbone: dict | None


def to_dynamic(
    weights: Mapping[str, Tensor],
    num_kernels: int = 6,
    seed: int = 0,
    coefficients: Mapping | None = None,
) -> Conversion:
    """Convert the weights of a backbone, a classifier or a segmentor.

    Args:
        weights: By name, in the order of the network. If some have the prefix
            ``backbone.``, they are converted and the others kept; otherwise all of them
            are the backbone's, except torchvision's classifier, which is left out.
        num_kernels: As in :class:`mmseg_dynet.ops.DyConv2d`.
        seed: Random seed of the kernels' differences and of predictors.
        coefficients: As in :class:`mmseg_dynet.ops.DyConv2d`.

    Raises:
        ValueError: The network is unknown, or weights or options do not fit.
    """
    inside = [name for name in weights if name.startswith(PREFIX)]
    kept = {n: w for n, w in weights.items() if inside and not n.startswith(PREFIX)}
    static = {n.removeprefix(PREFIX): weights[n] for n in inside or weights}
    static = {n: w for n, w in static.items() if not n.startswith(CLASSIFIERS)}
    dynamic = dict(num_kernels=num_kernels)
    if coefficients:
        dynamic["coefficients"] = dict(coefficients)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        source, options, network = _recognise(static, dynamic)
        dynamic = _fill(network, static, source)
    backbone = dict(type=type(network).__name__, **options)
    mmpretrain_backbone = None
    if type(network) is DyMobileNetV3:
        if "layer0.conv.weight" in static:
            mmpretrain_backbone = backbone | CLASSIFIER_V3
        else:
            backbone |= CLASSIFIER_V3
    return Conversion(
        source,
        backbone,
        {PREFIX + name: weight for name, weight in dynamic.items()} | kept,
        mmpretrain_backbone,
    )


def _recognise(
    weights: Mapping[str, Tensor], dynamic: dict
) -> tuple[str, dict, nn.Module]:
    """Find the static network; return its name, and the dynamic one."""
    mark = next((mark for mark in MARKS if mark in weights), None)
    if mark is None:
        names = ", ".join(list(weights)[:5])
        raise ValueError(
            f"unknown network, with weights {names}, ... Known are {KNOWN} Rename the "
            "weights to one of these layouts"
        )
    owner, kind = MARKS[mark]
    options, outputs = dict(dynamic), {}
    if kind is DyMobileNetV2:
        source = f"{owner}MobileNetV2"
        options = dict(same_width=True, **options)
        # Segmentors go without the convolution in front of a classifier.
        last = {"conv2.conv.weight", "features.18.0.weight"} & weights.keys()
        outputs = dict(out_indices=(7 if last else 6,))
    elif kind is DyMobileNetV3:
        large = any(name.startswith(("layer13.", "features.13.")) for name in weights)
        options = dict(arch="large" if large else "small", **options)
        source = f"{owner}MobileNetV3 {options['arch']}"
    else:
        source, resnet_options = _recognise_resnet(weights)
        options |= resnet_options
    stems = [w for n, w in weights.items() if n.startswith(STEMS) and w.ndim == 4]
    if stems and stems[0].shape[1] != 3:
        options["in_channels"] = stems[0].shape[1]
    return source, options, kind(**options, **outputs)


def _recognise_resnet(weights: Mapping[str, Tensor]) -> tuple[str, dict]:
    blocks = tuple(
        len({name.split(".")[1] for name in weights if name.startswith(f"layer{i}.")})
        for i in range(1, 5)
    )
    bottleneck = "layer1.0.conv3.weight" in weights
    if (bottleneck, blocks) not in DEPTHS:
        block = "bottleneck" if bottleneck else "basic"
        raise ValueError(f"no ResNet with {blocks} {block} blocks. Known are {KNOWN}")
    width = len(weights["layer1.0.conv1.weight"])
    options = dict(depth=DEPTHS[bottleneck, blocks], base_channels=width)
    name = "ResNet"
    if any(name.startswith("stem.") for name in weights):
        name, options["deep_stem"] = "ResNetV1c", True
    if "layer2.0.downsample.2.weight" in weights:  # a pooling is in front
        name, options["avg_down"] = "ResNetV1d", True
    if "stem.0.conv.weight" in weights:
        name = f"mmpretrain's {name}"
    return f"{name} {options['depth']}", options


def _fill(
    network: nn.Module, static: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Give the dynamic network the static one's weights, which have the same order."""
    banks, predictors = {}, set()
    for name, module in network.named_modules():
        if isinstance(module, DyConv2d):
            banks[f"{name}.weight"] = module
        elif isinstance(module, CoefficientPredictor):
            module.predict_start()
            predictors |= {f"{name}.{inside}" for inside in module.state_dict()}
    dynamic = network.state_dict()
    wanted = {
        name: tuple((weight[:, 0] if name in banks else weight).shape)
        for name, weight in dynamic.items()
        if name not in predictors and not name.endswith(COUNTER)
    }
    given = {n: tuple(w.shape) for n, w in static.items() if not n.endswith(COUNTER)}
    # Equal names may come in any order.
    names = wanted if wanted.keys() == given.keys() else given
    for ours, theirs in zip_longest(wanted, names, fillvalue="nothing"):
        kinds = {name.rpartition(".")[2] for name in (ours, theirs)}
        if len(kinds) > 1 or wanted[ours] != given[theirs]:
            raise ValueError(
                f"the weights were taken for {source}, but do not fit it: they have "
                f"{theirs} {given.get(theirs, '')} where "
                f"{ours} {wanted.get(ours, '')} is expected. Known are {KNOWN} Give "
                "all weights of such a network, in its order"
            )
        dynamic[ours] = static[theirs]
        if ours in banks:
            dynamic[ours] = banks[ours].bank_around(static[theirs])
        if ours.endswith("running_var"):
            ours, theirs = (n.replace("running_var", COUNTER) for n in (ours, theirs))
            dynamic[ours] = static.get(theirs, torch.tensor(0))
    return dynamic
