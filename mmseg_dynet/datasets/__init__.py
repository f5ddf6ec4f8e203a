"""Data sets that MMSegmentation lacks."""

from .camvid import CamVidDataset

__all__ = ["CamVidDataset"]
