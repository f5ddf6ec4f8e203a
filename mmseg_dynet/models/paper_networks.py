"""The networks of the paper by name, each a backbone with its classifier or head.

They are those of the ImageNet table of DyNet (arXiv 2004.10694), and its FCN for
Cityscapes.
"""

from collections import OrderedDict
from collections.abc import Callable

from mmseg.models.backbones import ResNet
from mmseg.models.decode_heads import FCNHead
from torch import Tensor, nn

from .backbones.dy_mobilenet_v2 import DyMobileNetV2
from .backbones.dy_mobilenet_v3 import DyMobileNetV3
from .backbones.dy_resnet import DyResNet
from .backbones.shufflenet_v2 import DyShuffleNetV2, ShuffleNetV2

STRIDE_8 = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_indices=(3,))


class Classifier(nn.Module):
    """A backbone, and linear layers on the global average of its last feature map."""

    def __init__(
        self, backbone: nn.Module, channels: int, hidden: int | None = None
    ) -> None:
        super().__init__()
        layers = [nn.Linear(hidden or channels, 1000)]
        if hidden is not None:
            layers = [nn.Linear(channels, hidden), nn.Hardswish(), *layers]
        self.backbone, self.head = backbone, nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to class scores (B, 1000)."""
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def _mobilenet_v2(*options: float | None) -> nn.Module:
    # With the 1x1 convolution that the host's MobileNetV2 leaves out.
    return Classifier(DyMobileNetV2(*options, out_indices=(7,)), 1280)


def _mobilenet_v3(arch: str, num_kernels: int | None) -> nn.Module:
    channels, hidden = {"small": (576, 1024), "large": (960, 1280)}[arch]
    return Classifier(DyMobileNetV3(arch, num_kernels), channels, hidden)


def _shuffle(network: type[nn.Module], *options: float | None) -> nn.Module:
    return Classifier(network(*options, out_indices=(3,)), 1024)


def _fcn(backbone: nn.Module, in_channels: int, channels: int) -> nn.Module:
    """Build an FCN for Cityscapes, whose head has one 3x3 convolution."""
    head = FCNHead(
        in_channels=in_channels, in_index=-1, channels=channels, num_convs=1,
        concat_input=False, num_classes=19, norm_cfg=dict(type="BN"),
        # Not used, but the host warns about its default.
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    )  # fmt: skip
    return nn.Sequential(OrderedDict(backbone=backbone, head=head))


NETWORKS: dict[str, Callable[[int | None], nn.Module]] = {
    "MobileNetV2 (1.0)": lambda _: _mobilenet_v2(True, None),
    "MobileNetV2 (0.75)": lambda _: _mobilenet_v2(True, None, 0.75),
    "MobileNetV2 (0.6)": lambda _: _mobilenet_v2(True, None, 0.6),
    "Dy-mobile (1.0)": lambda k: _mobilenet_v2(False, k),
    "Fix-mobile (1.0)": lambda _: _mobilenet_v2(False, None),
    "ShuffleNetV2 (1.0)": lambda _: _shuffle(ShuffleNetV2),
    "Dy-shuffle (1.0)": lambda k: _shuffle(DyShuffleNetV2, 1.0, k),
    "Dy-shuffle (1.5)": lambda k: _shuffle(DyShuffleNetV2, 1.5, k),
    "Fix-shuffle (1.5)": lambda _: _shuffle(DyShuffleNetV2, 1.5, None),
    "MobileNetV3-Small": lambda _: _mobilenet_v3("small", None),
    "MobileNetV3-Large": lambda _: _mobilenet_v3("large", None),
    "Dy-MobileNetV3-Small": lambda k: _mobilenet_v3("small", k),
    "Dy-MobileNetV3-Large": lambda k: _mobilenet_v3("large", k),
    "ResNet18": lambda _: Classifier(ResNet(18), 512),
    "ResNet50": lambda _: Classifier(ResNet(50), 2048),
    "Dy-ResNet18": lambda k: Classifier(DyResNet(18, k), 256),
    "Dy-ResNet50": lambda k: Classifier(DyResNet(50, k), 1024),
    "FCN on ResNet50": lambda _: _fcn(ResNet(50, **STRIDE_8), 2048, 512),
    "FCN-256 on Dy-ResNet50": lambda k: _fcn(DyResNet(50, k, **STRIDE_8), 1024, 256),
    "FCN-512 on Dy-ResNet50": lambda k: _fcn(DyResNet(50, k, **STRIDE_8), 1024, 512),
}
"""Builders from K, the paper's g_t, which static networks and Fix- controls ignore."""
IMAGE_SIDES = {name: 768 if name.startswith("FCN") else 224 for name in NETWORKS}
"""Height and width, in pixels, of the image that the paper counts MACs for."""
