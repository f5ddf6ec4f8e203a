"""Bad data stops a training with the name of the file and what to do about it.

MMSegmentation trains on what it can decode: a label outside the classes ends in an
assertion on the GPU or in a wrong loss, a label map of another size in a shape error,
an image that is cut off, depending on the version of OpenCV, in grey pixels. In a
config::

    train_pipeline = [
        dict(type="CheckFiles"),
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(type="CheckLabels", num_classes=19),
        ...
    ]

In a test pipeline CheckFiles stands behind LoadImageFromFile, which MMSegmentation's
inference expects in the first place.
"""

from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_dynet.files import is_whole_png

JPEG_END = b"\xff\xd9"
LABEL_MODES = ("1", "L", "P")
REPAIR = "get it again from where the data set comes from, or draw it again"


class CheckFiles(BaseTransform):
    """Check that the image and the label map of a sample are whole files.

    Compares the checksums of a PNG, and looks for the end of a JPEG; other formats have
    to have a header. A label map has one channel of 8 bits: MMSegmentation would cut
    off the upper bits. Costs 0.7 ms for an image and a label map of 1024x2048, a
    hundredth of decoding them.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is cut off, damaged, no picture or no label map.
    """

    def transform(self, results: dict) -> dict:
        """Check, and hand on the sample as it is; one of memory has no files."""
        if image := results.get("img_path"):
            check_picture(image)
        if labels := results.get("seg_map_path"):
            mode = check_picture(labels)
            if mode not in LABEL_MODES:
                raise ValueError(
                    f"{labels} is a picture of mode {mode}: a label map has one "
                    "channel of 8 bits, the number of a class in each pixel. Convert "
                    "it, or correct seg_map_suffix"
                )
        return results


class CheckLabels(BaseTransform):
    """Check that a label map has the size of its image and holds classes only.

    Stands behind LoadAnnotations, before anything changes the label map. Costs 0.2 ms
    for a label map of 1024x2048.

    Args:
        num_classes: Labels are 0 to ``num_classes - 1``.
        ignore_index: The label of pixels that are no class.

    Raises:
        ValueError: The size differs, or there are other labels.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Check, and hand on the sample as it is; without labels there is no check."""
        labels = results.get("gt_seg_map")
        if labels is None:
            return results
        path, size = results["seg_map_path"], tuple(results["ori_shape"])
        if labels.shape != size:
            raise ValueError(
                f"{path} is {labels.shape}, but its image {results['img_path']} is "
                f"{size} (height, width): {REPAIR}"
            )
        strangers = (labels >= self.num_classes) & (labels != self.ignore_index)
        if strangers.any():
            found = np.unique(labels[strangers]).tolist()
            raise ValueError(
                f"{path} holds the labels {found} in {strangers.sum()} pixels: allowed "
                f"are 0 to {self.num_classes - 1}, and {self.ignore_index} for pixels "
                "of no class. Convert it with tools/dataset_converters, or correct "
                "num_classes and ignore_index of CheckLabels"
            )
        return results


def check_picture(path: str) -> str:
    """Check that a picture is whole, and return its mode (as Pillow names it)."""
    try:
        with Image.open(path) as image:
            image.verify()
        if image.format in IS_WHOLE and not IS_WHOLE[image.format](Path(path)):
            raise OSError("it has no end")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is missing, of a sample of the data set: {REPAIR}"
        ) from error
    except Exception as error:  # a damaged picture can raise anything
        raise ValueError(
            f"{path} is cut off, damaged or no picture ({error}): {REPAIR}"
        ) from error
    return image.mode


def _is_whole_jpeg(path: Path) -> bool:
    """Whether a JPEG has its end, apart from padding."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read().rstrip(b"\x00\r\n").endswith(JPEG_END)


IS_WHOLE = {"PNG": is_whole_png, "JPEG": _is_whole_jpeg}


def check_samples(dataset: dict) -> None:
    """Check that a data set of MMSegmentation has samples, before training begins.

    Lists its files a second time: 30 ms for Cityscapes.

    Args:
        dataset: Its config. One without ``data_prefix.img_path`` is left alone: it is
            a wrapper of data sets, or of another library.

    Raises:
        FileNotFoundError: A folder is missing, or there are no images in it.
    """
    if "img_path" not in dataset.get("data_prefix", {}):
        return
    built = DATASETS.build({**dataset, "pipeline": [], "lazy_init": True})
    for folder in filter(None, built.data_prefix.values()):
        if not Path(folder).is_dir():
            raise FileNotFoundError(
                f"the data set has no folder {folder}: prepare it with "
                "tools/dataset_converters, or set data_root to where it is"
            )
    if not built.load_data_list():
        raise FileNotFoundError(
            f"the data set is empty: no *{built.img_suffix} in "
            f"{built.data_prefix['img_path']}"
            + (f" that {built.ann_file} lists" if built.ann_file else "")
            + ". Prepare it with tools/dataset_converters, or correct img_suffix"
        )
