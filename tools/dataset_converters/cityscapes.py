"""Draw the label maps of Cityscapes, *_gtFine_labelTrainIds.png, from its polygons.

Example:
    python tools/dataset_converters/cityscapes.py data/cityscapes --nproc 8
"""

import argparse
import sys
from pathlib import Path

from cityscapesscripts.preparation.json2labelImg import json2labelImg
from mmengine.utils import track_progress_rich

from mmseg_dynet.files import replacing

POLYGONS, LABELS = "_gtFine_polygons.json", "_gtFine_labelTrainIds.png"


def parse_args():
    parser = argparse.ArgumentParser(
        description=f"{__doc__.partition(chr(10))[0]} Maps that are newer than their "
        "polygons are kept, so that an interrupted run continues."
    )
    parser.add_argument(
        "root", type=Path, help="folder with leftImg8bit and gtFine in it"
    )
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], help="splits to convert"
    )
    parser.add_argument("--nproc", type=int, default=1, help="number of processes")
    return parser.parse_args()


def label_map_of(polygons):
    return polygons.with_name(polygons.name.replace(POLYGONS, LABELS))


def is_drawn(polygons):
    label_map = label_map_of(polygons)
    return (
        label_map.is_file()
        and label_map.stat().st_mtime_ns >= polygons.stat().st_mtime_ns
    )


def draw(polygons):
    """Draw one label map; an interrupted run leaves none that is cut off."""
    try:
        with replacing(label_map_of(polygons)) as partial:
            json2labelImg(str(polygons), str(partial), "trainIds")
    # An unknown label makes cityscapesscripts exit: a pool would wait for it forever.
    except (ValueError, KeyError, TypeError, SystemExit) as error:
        raise ValueError(
            f"{polygons} is not a Cityscapes annotation ({error!r}): unpack it again "
            "from gtFine_trainvaltest.zip"
        ) from error


def main():
    args = parse_args()
    found = {}
    for split in args.splits:
        folder = args.root / "gtFine" / split
        found[split] = sorted(folder.glob(f"*/*{POLYGONS}"))
        if not found[split]:
            sys.exit(
                f"error: {folder} is missing or holds no polygons: unpack "
                f"gtFine_trainvaltest.zip of cityscapes-dataset.com in {args.root}"
            )
    todo = [path for paths in found.values() for path in paths if not is_drawn(path)]
    try:
        if todo:
            track_progress_rich(draw, todo, nproc=args.nproc, chunksize=4)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for split, paths in found.items():
        names = [f"{p.parent.name}/{p.name.removesuffix(POLYGONS)}\n" for p in paths]
        (args.root / f"{split}.txt").write_text("".join(names))
    print(f"{len(todo)} label maps drawn; {', '.join(args.splits)} complete")


if __name__ == "__main__":
    main()
