"""Write docs/model_zoo.md's tables from the configs and their metafiles."""

from argparse import ArgumentParser
from pathlib import Path

from mmseg_dynet.markdown import update_block
from mmseg_dynet.model_zoo import render

ROOT = Path(__file__).resolve().parents[2]


def main():
    ArgumentParser(description=__doc__).parse_args()
    update_block(ROOT / "docs/model_zoo.md", "model-zoo", render(ROOT))


if __name__ == "__main__":
    main()
