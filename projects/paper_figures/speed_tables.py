"""Write README.md's and docs/speed.md's tables and plots from benchmarks/*.json."""

import json
from argparse import ArgumentParser
from pathlib import Path

from figures.speed import BLOCKS

from mmseg_dynet.analysis.benchmark import draw_sweep
from mmseg_dynet.files import write_figure
from mmseg_dynet.markdown import update_block

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
DOCUMENTS = {"README.md": ("speed-table",), "docs/speed.md": tuple(BLOCKS)}


def main():
    ArgumentParser(description=__doc__).parse_args()
    for document, blocks in DOCUMENTS.items():
        for block in blocks:
            update_block(ROOT / document, block, BLOCKS[block](BENCHMARKS))
    for path in BENCHMARKS.glob("sweep-*.json"):
        figure = draw_sweep(json.loads(path.read_text("utf-8")))
        write_figure(ROOT / f"docs/images/{path.stem}.png", figure, dpi=100)


if __name__ == "__main__":
    main()
