"""Print every FLOPs figure of the DyNet paper beside the count of our network."""

import sys
from argparse import ArgumentParser
from contextlib import redirect_stdout
from pathlib import Path

# The host prints when it is imported; what is printed here may go into a file.
with redirect_stdout(sys.stderr):
    from figures.paper import MARKDOWN_BLOCK, render, report

    from mmseg_dynet.files import write_json
    from mmseg_dynet.markdown import update_block


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    parser.add_argument(
        "--update",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help=f"rewrite the table between <!-- {MARKDOWN_BLOCK} --> and "
        f"<!-- /{MARKDOWN_BLOCK} --> of these documents",
    )
    return parser.parse_args()


def main():
    args = parse_args()
    print(render(markdown=args.markdown))
    if args.json is not None:
        write_json(args.json, report())
    for path in args.update:
        update_block(path, MARKDOWN_BLOCK, render(markdown=True))


if __name__ == "__main__":
    main()
