"""The paper's networks as MMSegmentation backbones, and the parts to build others.

:mod:`mmseg_dynet.models.dynamize` needs torch only; all else needs MMSegmentation.
"""

from mmseg_dynet.compatibility import has_host

if has_host():
    from .backbones import (
        DyMobileNetV2,
        DyMobileNetV3,
        DyResNet,
        DyShuffleNetV2,
        ShuffleNetV2,
        StagedBackbone,
    )
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
