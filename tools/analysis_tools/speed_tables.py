"""Write the tables of speed in README.md and docs/speed.md from benchmarks/*.json."""

from argparse import ArgumentParser
from pathlib import Path

from mmseg_dynet.analysis.speed import BLOCKS
from mmseg_dynet.markdown import update_block

DOCUMENTS = {"README.md": ("speed-table",), "docs/speed.md": tuple(BLOCKS)}


def main():
    ArgumentParser(description=__doc__).parse_args()
    root = Path(__file__).resolve().parents[2]
    for document, blocks in DOCUMENTS.items():
        for block in blocks:
            update_block(root / document, block, BLOCKS[block](root / "benchmarks"))


if __name__ == "__main__":
    main()
