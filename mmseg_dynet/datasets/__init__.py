"""Data sets beyond MMSegmentation's own, and what prepares them on disk.

Importing this package registers the data sets; the preparation
(:mod:`.cityscapes_labels`, :mod:`.camvid_layout`, :mod:`.synthetic_streets`) is
imported by name where it is needed, so that training does not depend on it.
"""

from .camvid import CamVidDataset

__all__ = ["CamVidDataset"]
