"""Generate a small data set of synthetic streets in the layout of Cityscapes.

Example:
    python projects/synthetic_streets/generate.py --out data/synthetic_streets
"""

import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from pathlib import Path

from streets import generate_synthetic_streets


def parse_args():
    parser = ArgumentParser(
        description="Generate synthetic streets in the layout of Cityscapes. The same "
        "arguments give the same files.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    out = Path("data/synthetic_streets")
    parser.add_argument("--out", type=Path, default=out, help="new folder")
    parser.add_argument("--num-train", type=int, default=48, help="training images")
    parser.add_argument("--num-val", type=int, default=48, help="validation images")
    parser.add_argument("--height", type=int, default=128, help="in pixels")
    parser.add_argument("--width", type=int, default=256, help="in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        generate_synthetic_streets(**vars(args))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {args.num_train} training, {args.num_val} validation images")


if __name__ == "__main__":
    main()
