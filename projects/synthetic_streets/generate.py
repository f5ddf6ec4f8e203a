"""Generate a small data set of synthetic streets in the layout of Cityscapes.

Example:
    python tools/dataset_converters/synthetic_streets.py --out data/synthetic_streets
"""

import argparse
import sys
from pathlib import Path

from streets import generate_synthetic_streets


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Generate synthetic streets in the layout of Cityscapes; "
        "the same arguments give the same files.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data/synthetic_streets"), help="new folder"
    )
    parser.add_argument("--num-train", type=int, default=48, help="training images")
    parser.add_argument("--num-val", type=int, default=16, help="validation images")
    parser.add_argument("--height", type=int, default=128, help="in pixels")
    parser.add_argument("--width", type=int, default=256, help="in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    return parser.parse_args()


def main() -> None:
    """Generate, or say which argument is wrong."""
    args = parse_args()
    try:
        generate_synthetic_streets(**vars(args))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: train: {args.num_train}, val: {args.num_val}")


if __name__ == "__main__":
    main()
