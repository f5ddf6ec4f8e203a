"""Blocks of the networks, each dynamic or static."""

from .branch import DyConvModule, DynamicBranch, build_branch
from .inverted_residual import InvertedResidual
from .residual import DyBasicBlock, DyBottleneck
from .shuffle import ProjectionUnit, ShuffleUnit

__all__ = [
    "DyBasicBlock",
    "DyBottleneck",
    "DyConvModule",
    "DynamicBranch",
    "InvertedResidual",
    "ProjectionUnit",
    "ShuffleUnit",
    "build_branch",
]
