"""Convert the polygons of Cityscapes to label maps of train ids.

Example:
    python tools/dataset_converters/cityscapes.py data/cityscapes --nproc 8
"""

import argparse
import sys
from pathlib import Path

from mmseg_dynet.datasets.cityscapes_labels import convert_cityscapes


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Draw *_gtFine_labelTrainIds.png from the polygons of Cityscapes. "
        "Can be interrupted and started again."
    )
    parser.add_argument(
        "root", type=Path, help="folder with leftImg8bit and gtFine in it"
    )
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], help="splits to convert"
    )
    parser.add_argument("--nproc", type=int, default=1, help="number of processes")
    return parser.parse_args()


def main() -> None:
    """Convert, or say what is wrong with the tree."""
    args = parse_args()
    try:
        drawn = convert_cityscapes(args.root, args.splits, args.nproc)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{drawn} label maps drawn; {', '.join(args.splits)} complete")


if __name__ == "__main__":
    main()
