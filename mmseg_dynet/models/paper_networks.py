"""The networks of the paper by name, each a backbone with its classifier or head.

These are the networks of the ImageNet table of "DyNet: Dynamic Convolution for
Accelerating Convolutional Neural Networks" (arXiv 2004.10694), and its FCN for
Cityscapes.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mmseg.models.backbones import ResNet
from mmseg.models.decode_heads import FCNHead
from torch import Tensor, nn

from .backbones import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
)

OUTPUT_STRIDE_8 = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_indices=(3,))


class ClassifierHead(nn.Sequential):
    """Layers behind the global average of the last feature map."""

    def forward(self, outs: tuple[Tensor, ...]) -> Tensor:
        """Map feature maps, the last (B, C, H, W), to class scores (B, 1000)."""
        return super().forward(outs[-1].mean((2, 3)))


def _join(backbone: nn.Module, head: nn.Module) -> nn.Module:
    """Name the two parts as :func:`count_complexity` counts them."""
    return nn.Sequential(OrderedDict(backbone=backbone, head=head))


def _classifier(
    network: type[nn.Module], channels: int, *options: float | None, last: int = 3
) -> nn.Module:
    """Build a backbone from its first options, and a linear layer on its last stage."""
    backbone = network(*options, out_indices=(last,))
    return _join(backbone, ClassifierHead(nn.Linear(channels, 1000)))


# With the 1x1 convolution that the host's MobileNetV2 leaves out.
_mobilenet_v2 = partial(_classifier, DyMobileNetV2, 1280, last=7)
_dy_shuffle = partial(_classifier, DyShuffleNetV2, 1024)


def _mobilenet_v3(arch: str, num_kernels: int | None) -> nn.Module:
    """Build MobileNetV3; without kernels the host's, but at output stride 32."""
    channels, hidden = {"small": (576, 1024), "large": (960, 1280)}[arch]
    head = ClassifierHead(
        nn.Linear(channels, hidden), nn.Hardswish(), nn.Linear(hidden, 1000)
    )
    return _join(DyMobileNetV3(arch, num_kernels), head)


def _fcn(backbone: nn.Module, in_channels: int, channels: int) -> nn.Module:
    """Build an FCN for Cityscapes, whose head has one 3x3 convolution."""
    head = FCNHead(
        in_channels=in_channels,
        in_index=-1,
        channels=channels,
        num_convs=1,
        concat_input=False,
        num_classes=19,
        norm_cfg=dict(type="BN"),
        # Not used, but the host warns about its default.
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    )
    return _join(backbone, head)


def _fcn_dy_resnet50(channels: int, num_kernels: int | None) -> nn.Module:
    return _fcn(DyResNet(50, num_kernels, **OUTPUT_STRIDE_8), 1024, channels)


@dataclass(frozen=True)
class Network:
    """Our counterpart of a network of the paper.

    Attributes:
        build: Builds it from K, the paper's g_t; None builds the Fix- control. Static
            networks ignore it.
        side: Height and width of the image for its MACs, in pixels.
    """

    build: Callable[[int | None], nn.Module]
    side: int = 224


NETWORKS = {
    "MobileNetV2 (1.0)": Network(lambda _: _mobilenet_v2(True, None)),
    "MobileNetV2 (0.75)": Network(lambda _: _mobilenet_v2(True, None, 0.75)),
    "MobileNetV2 (0.6)": Network(lambda _: _mobilenet_v2(True, None, 0.6)),
    "Dy-mobile (1.0)": Network(lambda k: _mobilenet_v2(False, k)),
    "Fix-mobile (1.0)": Network(lambda k: _mobilenet_v2(False, k)),
    "ShuffleNetV2 (1.0)": Network(lambda _: _classifier(ShuffleNetV2, 1024)),
    "Dy-shuffle (1.0)": Network(lambda k: _dy_shuffle(1.0, k)),
    "Dy-shuffle (1.5)": Network(lambda k: _dy_shuffle(1.5, k)),
    "Fix-shuffle (1.5)": Network(lambda k: _dy_shuffle(1.5, k)),
    "MobileNetV3-Small": Network(lambda k: _mobilenet_v3("small", k)),
    "MobileNetV3-Large": Network(lambda k: _mobilenet_v3("large", k)),
    "Dy-MobileNetV3-Small": Network(lambda k: _mobilenet_v3("small", k)),
    "Dy-MobileNetV3-Large": Network(lambda k: _mobilenet_v3("large", k)),
    "ResNet18": Network(lambda _: _classifier(ResNet, 512, 18)),
    "ResNet50": Network(lambda _: _classifier(ResNet, 2048, 50)),
    "Dy-ResNet18": Network(lambda k: _classifier(DyResNet, 256, 18, k)),
    "Dy-ResNet50": Network(lambda k: _classifier(DyResNet, 1024, 50, k)),
    "FCN on ResNet50": Network(
        lambda _: _fcn(ResNet(50, **OUTPUT_STRIDE_8), 2048, 512), 768
    ),
    "FCN-256 on Dy-ResNet50": Network(lambda k: _fcn_dy_resnet50(256, k), 768),
    "FCN-512 on Dy-ResNet50": Network(lambda k: _fcn_dy_resnet50(512, k), 768),
}
