"""Gather the outcomes of the CamVid study; write its tables, plots and metafile.

Outcomes of runs in --work-dirs are copied to benchmarks/camvid/, those of the same runs
trained again elsewhere, in --repeats, to benchmarks/camvid/repeats/. Everything is
written from what is there then.
"""

import json
from argparse import ArgumentParser
from pathlib import Path

from arms import ARMS, OUTCOME, REPEATS, RESULTS
from mmengine.fileio import dump
from prettytable import PrettyTable, TableStyle

from mmseg_dynet.analysis import coefficients, correlation
from mmseg_dynet.analysis.outcome import Outcome
from mmseg_dynet.analysis.study import (
    Cost,
    arms_table,
    classes_table,
    differences_table,
    draw_accuracy_over_cost,
    draw_curves,
    model_entry,
    modes_table,
    read_outcomes,
    repeats_table,
)
from mmseg_dynet.files import replacing, write_figure
from mmseg_dynet.markdown import update_block

ROOT = Path(__file__).resolve().parents[2]
RESULTS_DIR = ROOT / RESULTS
REPEATS_DIR = RESULTS_DIR / REPEATS
README = ROOT / "README.md"
DOCUMENT = ROOT / "docs/camvid.md"
IMAGES = ROOT / "docs/images"
METAFILE = ROOT / "configs/fcn/metafile.yml"
MAIN_ARMS = ("ResNet18", "Dy-ResNet18", "Fix-ResNet18")  # of the README's table
# What analyze.sh writes for seed 0 of two networks.
FINDINGS = {"coefficients": coefficients.tabulate, "correlation": correlation.tabulate}


def read_json(name: str) -> dict:
    return json.loads((RESULTS_DIR / f"{name}.json").read_text("utf-8"))


def as_markdown(table: PrettyTable) -> str:
    table.set_style(TableStyle.MARKDOWN)
    return str(table)


def read_costs() -> tuple[dict[str, Cost], str]:
    """The cost of each arm, and the machine that it was measured on."""
    report = read_json("cost")
    costs = {name: Cost(**values) for name, values in report["arms"].items()}
    return costs, report["machine"]


def read_arms(folder: Path = RESULTS_DIR) -> dict[str, list[Outcome]]:
    """The outcomes of the arms that are trained, in the order of ARMS."""
    found = read_outcomes(folder)
    return {name: found[name] for name in ARMS if name in found}


def describe_repeats() -> str:
    """The table of the runs that were trained again, and where that was."""
    repeats = read_arms(REPEATS_DIR)
    machines = sorted({o.machine for outcomes in repeats.values() for o in outcomes})
    return f"{repeats_table(read_arms(), repeats)}\n\nAgain: {'; '.join(machines)}."


def read_modes(folder: Path = RESULTS_DIR) -> dict[str, list[dict]]:
    """What analyze.sh found of each seed's modes of inference, by arm."""
    reports = {}
    for name in MAIN_ARMS:
        files = sorted(folder.glob(f"modes/{ARMS[name].file_name}-seed*.json"))
        if files:
            reports[name] = [json.loads(path.read_text("utf-8")) for path in files]
    return reports


def blocks() -> dict[tuple[Path, str], str]:
    """The generated blocks, by the documents that they are in and their names."""
    outcomes, (costs, machine) = read_arms(), read_costs()
    twins = {name: arm.static_twin for name, arm in ARMS.items()}
    modes = read_modes()
    main_costs = {name: costs[name] for name in MAIN_ARMS}
    all_arms = arms_table(outcomes, costs, twins, modes)
    main_arms = arms_table(outcomes, main_costs, twins, modes)
    findings = {name: tabulate(read_json(name)) for name, tabulate in FINDINGS.items()}
    return {
        (README, "camvid-arms"): main_arms,
        (DOCUMENT, "camvid-arms"): f"{all_arms}\n\nMilliseconds: {machine}.",
        (DOCUMENT, "camvid-classes"): classes_table(outcomes),
        (DOCUMENT, "camvid-differences"): differences_table(modes, "Dy-ResNet18"),
        (DOCUMENT, "camvid-modes"): modes_table(modes),
        (DOCUMENT, "camvid-repeats"): describe_repeats(),
        (DOCUMENT, "camvid-repeats-modes"): modes_table(read_modes(REPEATS_DIR)),
        **{(DOCUMENT, f"camvid-{n}"): as_markdown(t) for n, t in findings.items()},
    }


def models() -> list[dict]:
    """The entries of the metafile."""
    return [model_entry(outcomes) for outcomes in read_arms().values()]


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work-dirs", type=Path, default=ROOT / "work_dirs/camvid", metavar="DIR",
        help="where train_arms.py trained (default: work_dirs/camvid)",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", type=Path, default=ROOT / "work_dirs/repeats", metavar="DIR",
        help="where it trained runs again, on another kind of machine: to compare "
        "with, not to put in their place (default: work_dirs/repeats)",
    )  # fmt: skip
    return parser.parse_args()


def gather(work_dirs: Path, results: Path) -> None:
    for path in work_dirs.glob(f"*/{OUTCOME}"):
        outcome = Outcome.read(path)
        if outcome.arm in ARMS:
            name = f"{ARMS[outcome.arm].file_name}-seed{outcome.seed}.json"
            outcome.write(results / name)


def main():
    args = parse_args()
    gather(args.work_dirs, RESULTS_DIR)
    gather(args.repeats, REPEATS_DIR)
    for (document, name), content in blocks().items():
        update_block(document, name, content)
    with replacing(METAFILE) as partial:
        dump({"Models": models()}, partial, file_format="yaml", sort_keys=False)
    outcomes, (costs, _) = read_arms(), read_costs()
    cost_plot = draw_accuracy_over_cost(outcomes, costs, read_modes())
    write_figure(IMAGES / "camvid-cost.png", cost_plot)
    write_figure(IMAGES / "camvid-curves.png", draw_curves(outcomes))


if __name__ == "__main__":
    main()
