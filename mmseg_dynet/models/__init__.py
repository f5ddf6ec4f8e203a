"""The paper's networks as MMSegmentation backbones, and the parts to build others.

:mod:`mmseg_dynet.models.dynamize` needs torch only; all else needs MMSegmentation.
"""

from mmseg_dynet.compatibility import has_host

if has_host():
    from .backbones.base import StagedBackbone
    from .backbones.dy_mobilenet_v2 import DyMobileNetV2
    from .backbones.dy_mobilenet_v3 import DyMobileNetV3
    from .backbones.dy_resnet import DyResNet
    from .backbones.shufflenet_v2 import DyShuffleNetV2, ShuffleNetV2
    from .blocks import DyConvModule, DynamicBranch, build_branch

    __all__ = [
        "DyConvModule",
        "DyMobileNetV2",
        "DyMobileNetV3",
        "DyResNet",
        "DyShuffleNetV2",
        "DynamicBranch",
        "ShuffleNetV2",
        "StagedBackbone",
        "build_branch",
    ]
