"""Data sets beyond MMSegmentation's own, and what prepares them on disk.

What prepares them (:mod:`.cityscapes_labels`, :mod:`.camvid_layout`) is imported by
name where it is needed, so that training does not depend on it.
"""

from .camvid import CamVidDataset

__all__ = ["CamVidDataset"]
