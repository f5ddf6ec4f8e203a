"""Write tables and plots of the CamVid study from the outcomes of its runs."""

import json
from argparse import ArgumentParser
from pathlib import Path

from arms import ARMS, OUTCOMES

from mmseg_dynet.analysis.study import (
    Cost,
    arms_table,
    classes_table,
    draw_accuracy_over_cost,
    draw_curves,
    read_outcomes,
)
from mmseg_dynet.files import write_figure
from mmseg_dynet.markdown import update_block

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/camvid.md"
IMAGES = ROOT / "docs/images"


def main():
    ArgumentParser(description=__doc__).parse_args()
    found = read_outcomes(ROOT / OUTCOMES)
    outcomes = {name: found[name] for name in ARMS if name in found}
    twins = {name: arm.static_twin for name, arm in ARMS.items()}
    cost = json.loads((ROOT / OUTCOMES / "cost.json").read_text("utf-8"))
    costs = {name: Cost(**values) for name, values in cost["arms"].items()}
    machine = f"Milliseconds: {cost['machine']}."
    table = arms_table(outcomes, costs, twins)
    update_block(DOCUMENT, "camvid-arms", f"{table}\n\n{machine}")
    if not outcomes:
        return  # nothing is trained yet
    update_block(DOCUMENT, "camvid-classes", classes_table(outcomes))
    figures = {
        "camvid-cost.png": draw_accuracy_over_cost(outcomes, costs),
        "camvid-curves.png": draw_curves(outcomes),
    }
    for name, figure in figures.items():
        write_figure(IMAGES / name, figure)


if __name__ == "__main__":
    main()
