"""Which network a checkpoint holds the weights of, by whose names.

A layout is a function from a layer to the names of its parts; the layers are those of
the dynamic network, which has the structure of the static one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from mmcv.cnn import ConvModule
from mmseg.models.utils import SELayer
from torch import Tensor, nn

from mmseg_dynet.messages import some

from .backbones import DyMobileNetV2, DyMobileNetV3, DyResNet
from .backbones.dy_resnet import DyBottleneck
from .blocks.branch import DyConvModule

KNOWN = (
    "ResNet and ResNetV1c 18, 34, 50, 101, MobileNetV2 and MobileNetV3 small and large "
    "(of width 1), with the names that torchvision, MMSegmentation or mmpretrain gives "
    "their weights, after backbone. or nothing"
)
DEPTHS = {
    (block is DyBottleneck, blocks): depth
    for depth, (block, blocks) in DyResNet.arch_settings.items()
}
# mmpretrain packs the stem of V1c in ConvModules, MMSegmentation strings it out.
MMPRETRAIN_STEM = {
    f"stem.{3 * i + j}": f"stem.{i}.{layer}"
    for i in range(3)
    for j, layer in enumerate(("conv", "bn"))
}
# What torchvision's and mmpretrain's MobileNetV3 have in place of the defaults of
# DyMobileNetV3, which are MMSegmentation's. No weight shows it.
CLASSIFIER_V3 = dict(
    norm_cfg=dict(type="BN", eps=0.001, momentum=0.01), same_padding=False
)


@dataclass(frozen=True)
class Twin:
    """The dynamic network of the width of a static one.

    Attributes:
        source: The static network, in words.
        network: The dynamic one, without memory for its weights.
        backbone: Its config.
        names: What the static network calls a layer, by what the dynamic one does;
            layers of the same name are left out.
        mmpretrain_backbone: The config if the static network is mmpretrain's, where
            neither name nor shape tells it from MMSegmentation's, and they differ.
    """

    source: str
    network: nn.Module
    backbone: dict
    names: dict[str, str]
    mmpretrain_backbone: dict | None = None

    def static_name(self, name: str) -> str:
        """What the static network calls a weight of the dynamic one."""
        layer, _, kind = name.rpartition(".")
        return f"{self.names.get(layer, layer)}.{kind}"


def recognise(weights: Mapping[str, Tensor], num_kernels: int) -> Twin:
    """Tell architecture and layout of a backbone from the names of its weights.

    Raises:
        ValueError: They are those of no network that is known.
    """
    for mark, build in NETWORKS.items():
        if mark in weights:
            return build(weights, num_kernels)
    raise ValueError(
        f"these are the weights of no network that is known: {some(weights)}. Known "
        f"are {KNOWN}. Rename the weights to one of these layouts"
    )


def _resnet(weights: Mapping[str, Tensor], num_kernels: int) -> Twin:
    stages = [
        {name.split(".")[1] for name in weights if name.startswith(f"layer{i}.")}
        for i in range(1, 5)
    ]
    blocks = tuple(map(len, stages))
    bottleneck = "layer1.0.conv3.weight" in weights
    if (bottleneck, blocks) not in DEPTHS:
        kind = "bottleneck" if bottleneck else "basic"
        raise ValueError(
            f"no ResNet with {blocks} {kind} blocks is known. Known are {KNOWN}"
        )
    options = dict(
        depth=DEPTHS[bottleneck, blocks],
        num_kernels=num_kernels,
        base_channels=len(weights["layer1.0.conv1.weight"]),
    )
    source, names = "ResNet", {}
    if any(name.startswith("stem.") for name in weights):
        options["deep_stem"] = True
        source = "ResNetV1c"
    if "stem.0.conv.weight" in weights:
        source, names = "mmpretrain's ResNetV1c", MMPRETRAIN_STEM
    with torch.device("meta"):
        network = DyResNet(**options)
    source += f" {options['depth']}"
    return Twin(source, network, dict(type="DyResNet", **options), names)


@dataclass(frozen=True)
class _Layer:
    """A layer of a MobileNet.

    Attributes:
        name: In the dynamic network.
        place: Of its block, counted through all stages; 0 is the stem.
        stage: From 1.
        block: In the stage.
        unit: In the block, activations and padding not counted.
        role: What OpenMMLab's MobileNetV3 calls it, "se" for squeeze-excite; empty for
            a convolution that is no part of a block: the stem, or the last one.
    """

    name: str
    place: int
    stage: int = 0
    block: int = 0
    unit: int = 0
    role: str = ""

    @property
    def ours(self) -> tuple[str, str]:
        """The parts with weights: convolution and norm, or two convolutions."""
        parts = ("conv1.conv", "conv2.conv") if self.role == "se" else ("conv", "bn")
        return tuple(f"{self.name}.{part}" for part in parts)


def _openmmlab_v2(layer: _Layer) -> tuple[str, str]:
    name = f"layer{layer.stage}.{layer.block}.conv.{layer.unit}"
    if not layer.role:
        name = "conv2" if layer.place else "conv1"
    return f"{name}.conv", f"{name}.bn"


def _torchvision_v2(layer: _Layer) -> tuple[str, str]:
    name = f"features.{layer.place}"
    if layer.role == "linear_conv":  # without activation: not packed in a module
        return f"{name}.conv.{layer.unit}", f"{name}.conv.{layer.unit + 1}"
    if layer.role:
        name += f".conv.{layer.unit}"
    return f"{name}.0", f"{name}.1"


def _openmmlab_v3(layer: _Layer) -> tuple[str, str]:
    name = f"layer{layer.place}" + (f".{layer.role}" if layer.role else "")
    if layer.role == "se":
        return f"{name}.conv1.conv", f"{name}.conv2.conv"
    return f"{name}.conv", f"{name}.bn"


def _torchvision_v3(layer: _Layer) -> tuple[str, str]:
    name = f"features.{layer.place}" + (f".block.{layer.unit}" if layer.role else "")
    parts = ("fc1", "fc2") if layer.role == "se" else ("0", "1")
    return tuple(f"{name}.{part}" for part in parts)


Naming = Callable[[_Layer], tuple[str, str]]


def _mobilenet_v2(
    weights: Mapping[str, Tensor], num_kernels: int, layout: str, naming: Naming
) -> Twin:
    options = dict(same_width=True, num_kernels=num_kernels)
    # The convolution in front of a classifier, which segmentors go without.
    last = {"conv2.conv.weight", "features.18.0.weight"} & weights.keys()
    with torch.device("meta"):
        network = DyMobileNetV2(**options, out_indices=(7 if last else 6,))
    return Twin(
        f"{layout} MobileNetV2",
        network,
        dict(type="DyMobileNetV2", **options),
        _names(network, naming),
    )


def _mobilenet_v3(
    weights: Mapping[str, Tensor], num_kernels: int, layout: str, naming: Naming
) -> Twin:
    large = any(name.startswith(("layer13.", "features.13.")) for name in weights)
    options = dict(arch="large" if large else "small", num_kernels=num_kernels)
    with torch.device("meta"):
        network = DyMobileNetV3(**options)
    backbone = dict(type="DyMobileNetV3", **options)
    of_classifier = backbone | CLASSIFIER_V3
    doubtful = naming is _openmmlab_v3
    return Twin(
        f"{layout} MobileNetV3 {options['arch']}",
        network,
        backbone if doubtful else of_classifier,
        _names(network, naming),
        of_classifier if doubtful else None,
    )


# A weight that no other network has, by what it tells.
NETWORKS = {
    "layer1.0.conv1.weight": _resnet,
    "conv1.conv.weight": partial(
        _mobilenet_v2, layout="OpenMMLab's", naming=_openmmlab_v2
    ),
    "features.1.conv.0.0.weight": partial(
        _mobilenet_v2, layout="torchvision's", naming=_torchvision_v2
    ),
    "layer0.conv.weight": partial(
        _mobilenet_v3, layout="OpenMMLab's", naming=_openmmlab_v3
    ),
    "features.1.block.0.0.weight": partial(
        _mobilenet_v3, layout="torchvision's", naming=_torchvision_v3
    ),
}


def _names(network: nn.Module, naming: Naming) -> dict[str, str]:
    """The names of a MobileNet's layers in a layout, by those of the dynamic one."""
    return {
        ours: theirs
        for layer in _layers(network)
        for ours, theirs in zip(layer.ours, naming(layer), strict=True)
    }


def _layers(network: DyMobileNetV2 | DyMobileNetV3) -> Iterator[_Layer]:
    """List the layers with weights, but for predictors."""
    (stem,) = (
        name
        for name, module in network.stem.named_modules(prefix="stem")
        if isinstance(module, ConvModule)
    )
    yield _Layer(stem, 0)
    place = 0
    for s, stage in enumerate(network.stages):
        for b, block in enumerate(stage):
            place += 1
            name = f"stages.{s}.{b}"
            if isinstance(block, ConvModule):
                yield _Layer(name, place)
                continue
            units = {
                j: "" if isinstance(module, DyConvModule) else "se"
                for j, module in enumerate(block.branch)
                if isinstance(module, DyConvModule | SELayer)
            }
            num_convs = list(units.values()).count("")
            convs = iter(("expand_conv", "depthwise_conv", "linear_conv")[-num_convs:])
            for unit, (j, role) in enumerate(units.items()):
                yield _Layer(
                    f"{name}.branch.{j}", place, s + 1, b, unit, role or next(convs)
                )
