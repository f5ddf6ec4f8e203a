"""The networks of the paper by name, each a backbone with its classifier or head.

These are the networks of the ImageNet table of "DyNet: Dynamic Convolution for
Accelerating Convolutional Neural Networks" (arXiv 2004.10694), and its FCN for
Cityscapes.
"""

from collections.abc import Callable
from dataclasses import dataclass

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


class BackboneWithHead(nn.Module):
    """The two parts that :func:`count_complexity` counts separately.

    Args:
        backbone: Maps images to a tuple of feature maps.
        head: Maps that tuple to class scores.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to class scores."""
        return self.head(self.backbone(x))


class ClassifierHead(nn.Sequential):
    """Layers behind the global average of the last feature map."""

    def forward(self, outs: tuple[Tensor, ...]) -> Tensor:
        """Map feature maps, the last (B, C, H, W), to class scores (B, 1000)."""
        return super().forward(outs[-1].mean((2, 3)))


def _classifier(backbone: nn.Module, channels: int) -> nn.Module:
    return BackboneWithHead(backbone, ClassifierHead(nn.Linear(channels, 1000)))


def _mobilenet_v2(widen_factor: float) -> nn.Module:
    """Build MobileNetV2: the host's with the 1x1 convolution that it leaves out."""
    backbone = DyMobileNetV2(True, None, widen_factor, out_indices=(7,))
    return _classifier(backbone, 1280)


def _dy_mobile(num_kernels: int | None) -> nn.Module:
    return _classifier(DyMobileNetV2(False, num_kernels, out_indices=(7,)), 1280)


def _mobilenet_v3(arch: str, num_kernels: int | None) -> nn.Module:
    """Build MobileNetV3; without kernels the host's, but at output stride 32."""
    channels, hidden = {"small": (576, 1024), "large": (960, 1280)}[arch]
    head = ClassifierHead(
        nn.Linear(channels, hidden), nn.Hardswish(), nn.Linear(hidden, 1000)
    )
    return BackboneWithHead(DyMobileNetV3(arch, num_kernels), head)


def _shufflenet_v2() -> nn.Module:
    return _classifier(ShuffleNetV2(out_indices=(3,)), 1024)


def _dy_shuffle(widen_factor: float, num_kernels: int | None) -> nn.Module:
    backbone = DyShuffleNetV2(widen_factor, num_kernels, out_indices=(3,))
    return _classifier(backbone, 1024)


def _resnet(depth: int, channels: int) -> nn.Module:
    return _classifier(ResNet(depth, out_indices=(3,)), channels)


def _dy_resnet(depth: int, channels: int, num_kernels: int | None) -> nn.Module:
    return _classifier(DyResNet(depth, num_kernels, out_indices=(3,)), channels)


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
    return BackboneWithHead(backbone, head)


def _fcn_resnet50() -> nn.Module:
    return _fcn(ResNet(50, **OUTPUT_STRIDE_8), in_channels=2048, channels=512)


def _fcn_dy_resnet50(channels: int, num_kernels: int | None) -> nn.Module:
    backbone = DyResNet(50, num_kernels, **OUTPUT_STRIDE_8)
    return _fcn(backbone, in_channels=1024, channels=channels)


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
    "MobileNetV2 (1.0)": Network(lambda _: _mobilenet_v2(1.0)),
    "MobileNetV2 (0.75)": Network(lambda _: _mobilenet_v2(0.75)),
    "MobileNetV2 (0.6)": Network(lambda _: _mobilenet_v2(0.6)),
    "Dy-mobile (1.0)": Network(_dy_mobile),
    "Fix-mobile (1.0)": Network(_dy_mobile),
    "ShuffleNetV2 (1.0)": Network(lambda _: _shufflenet_v2()),
    "Dy-shuffle (1.0)": Network(lambda k: _dy_shuffle(1.0, k)),
    "Dy-shuffle (1.5)": Network(lambda k: _dy_shuffle(1.5, k)),
    "Fix-shuffle (1.5)": Network(lambda k: _dy_shuffle(1.5, k)),
    "MobileNetV3-Small": Network(lambda k: _mobilenet_v3("small", k)),
    "MobileNetV3-Large": Network(lambda k: _mobilenet_v3("large", k)),
    "Dy-MobileNetV3-Small": Network(lambda k: _mobilenet_v3("small", k)),
    "Dy-MobileNetV3-Large": Network(lambda k: _mobilenet_v3("large", k)),
    "ResNet18": Network(lambda _: _resnet(18, 512)),
    "ResNet50": Network(lambda _: _resnet(50, 2048)),
    "Dy-ResNet18": Network(lambda k: _dy_resnet(18, 256, k)),
    "Dy-ResNet50": Network(lambda k: _dy_resnet(50, 1024, k)),
    "FCN on ResNet50": Network(lambda _: _fcn_resnet50(), 768),
    "FCN-256 on Dy-ResNet50": Network(lambda k: _fcn_dy_resnet50(256, k), 768),
    "FCN-512 on Dy-ResNet50": Network(lambda k: _fcn_dy_resnet50(512, k), 768),
}
