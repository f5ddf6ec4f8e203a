"""Write tables and plots of the CamVid study from the outcomes of its runs."""

import json
from argparse import ArgumentParser
from pathlib import Path

from arms import CONFIGS, OUTCOMES, static_twin

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
    arms = {arm: found[arm] for arm in CONFIGS if arm in found}
    cost = json.loads((ROOT / OUTCOMES / "cost.json").read_text("utf-8"))
    costs = {arm: Cost(**values) for arm, values in cost["arms"].items()}
    machine = f"Milliseconds: {cost['machine']}."
    table = arms_table(arms, costs, static_twin)
    update_block(DOCUMENT, "camvid-arms", f"{table}\n\n{machine}")
    if not arms:
        return  # nothing is trained yet
    update_block(DOCUMENT, "camvid-classes", classes_table(arms))
    figures = {
        "camvid-cost.png": draw_accuracy_over_cost(arms, costs),
        "camvid-curves.png": draw_curves(arms),
    }
    for name, figure in figures.items():
        write_figure(IMAGES / name, figure)


if __name__ == "__main__":
    main()
