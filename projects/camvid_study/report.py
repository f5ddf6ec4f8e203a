"""Gather the outcomes of the CamVid study; write its tables, plots and metafile.

Outcomes of runs in --work-dirs are copied to benchmarks/camvid/PRECISION/, by what the
machine computed in: results of different machines are not put into one table.
Everything is written from what is there then.
"""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from figures import correlation
from mmengine.fileio import dump
from prettytable import PrettyTable, TableStyle
from study.arms import ARMS, DYNAMIC, MAIN_ARMS, OUTCOME, RESULTS, WORK_DIRS
from study.outcome import Outcome
from study.study import (
    Cost,
    arms_table,
    classes_table,
    differences_table,
    draw_accuracy_over_cost,
    draw_curves,
    model_entry,
    modes_table,
    read_outcomes,
    windows_table,
)

from mmseg_dynet.analysis import coefficients
from mmseg_dynet.files import replacing, write_figure
from mmseg_dynet.markdown import update_block

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENT = ROOT / "docs/camvid.md"
IMAGES = ROOT / "docs/images"
METAFILE = ROOT / "configs/dynet/metafile.yml"
# What analyze.py finds in the networks of seed 0.
FINDINGS = {"coefficients": coefficients.tabulate, "correlation": correlation.tabulate}
TWINS = {name: arm.static_twin for name, arm in ARMS.items()}


@dataclass(frozen=True)
class Results:
    """What was found in one precision, by arm, in the order of ARMS.

    Attributes:
        outcomes: Of training.
        modes: What analyze.py found in each seed's modes of inference.
        windows: The same of seed 0, in windows of each size, the training crop first.
    """

    outcomes: dict[str, list[Outcome]]
    modes: dict[str, list[dict]]
    windows: dict[str, list[dict]]

    @classmethod
    def read(cls, precision: str) -> "Results":
        """Read the files of a precision.

        Raises:
            ValueError: Of an arm some seeds were analysed and others were not, so that
                means over seeds would stand side by side that do not compare.
        """
        folder = ROOT / RESULTS / precision
        found = read_outcomes(folder)
        modes, windows = {}, {}
        for name, arm in ARMS.items():
            seeds = [outcome.seed for outcome in found.get(name, [])]
            paths = [folder / f"modes/{arm.file_name(seed)}.json" for seed in seeds]
            modes[name] = read_all(paths)
            if modes[name] and len(modes[name]) < len(paths):
                missing = ", ".join(str(p) for p in paths if not p.is_file())
                raise ValueError(
                    f"of {name} other seeds were analysed, and there is no {missing}: "
                    "run tools/camvid/analyze.py first"
                )
            crop = folder / f"modes/{arm.file_name(0)}.json"
            others = sorted(folder.glob(f"windows/{arm.file_name(0)}-*.json"))
            windows[name] = read_all([crop, *others]) if others else []
        return cls(
            {name: found[name] for name in ARMS if name in found},
            {name: reports for name, reports in modes.items() if reports},
            {name: reports for name, reports in windows.items() if reports},
        )


def read_all(paths: Iterable[Path]) -> list[dict]:
    return [read_json(path) for path in paths if path.is_file()]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def as_markdown(table: PrettyTable) -> str:
    table.set_style(TableStyle.MARKDOWN)
    return str(table)


def read_costs() -> tuple[dict[str, Cost], str]:
    """The cost of each arm, and the machine that it was measured on."""
    report = read_json(ROOT / RESULTS / "cost.json")
    costs = {name: Cost(**values) for name, values in report["arms"].items()}
    return costs, report["machine"]


def read_results() -> dict[str, Results]:
    """The results in each precision."""
    return {p: Results.read(p) for p in ("bfloat16", "float32")}


def blocks() -> dict[tuple[Path, str], str]:
    """The generated blocks, by the documents that they are in and their names."""
    results, (costs, machine) = read_results(), read_costs()
    bfloat16, float32 = results["bfloat16"], results["float32"]
    main_arms = {name: bfloat16.outcomes[name] for name in MAIN_ARMS}
    main_modes = {name: bfloat16.modes[name] for name in MAIN_ARMS}
    summary = arms_table(main_arms, costs, TWINS, bfloat16.modes)
    measured = f"Milliseconds: {machine}."
    found = {
        "differences": differences_table(main_modes, DYNAMIC),
        "windows": windows_table(float32.windows),
    }
    for precision, of_precision in results.items():
        outcomes, modes = of_precision.outcomes, of_precision.modes
        arms = arms_table(outcomes, costs, TWINS, modes)
        found[f"arms-{precision}"] = f"{arms}\n\n{measured}"
        found[f"classes-{precision}"] = classes_table(outcomes)
        found[f"modes-{precision}"] = modes_table(modes)
    for name, tabulate in FINDINGS.items():
        report = read_json(ROOT / RESULTS / "float32" / f"{name}.json")
        found[name] = as_markdown(tabulate(report))
    return {(README, "camvid-arms"): f"{summary}\n\n{measured}"} | {
        (DOCUMENT, f"camvid-{name}"): block for name, block in found.items()
    }


def models() -> list[dict]:
    """The entries of the metafile: of each arm the results that have most seeds."""
    outcomes = [results.outcomes for results in read_results().values()]
    found = {arm: max((o.get(arm, []) for o in outcomes), key=len) for arm in ARMS}
    return [model_entry(runs) for runs in found.values() if runs]


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work-dirs", type=Path, default=ROOT / WORK_DIRS, metavar="DIR",
        help=f"where train_arms.py trained (default: {WORK_DIRS})",
    )  # fmt: skip
    return parser.parse_args()


def gather(work_dirs: Path) -> None:
    for path in work_dirs.glob(f"*/{OUTCOME}"):
        outcome = Outcome.read(path)
        if outcome.arm in ARMS:
            name = ARMS[outcome.arm].file_name(outcome.seed)
            copy = RESULTS / outcome.precision / f"{name}.json"
            outcome.write(ROOT / copy)
            print(f"{path} -> {copy}")


def draw(precision: str, results: Results) -> None:
    costs, _ = read_costs()
    over_cost = draw_accuracy_over_cost(results.outcomes, costs, results.modes)
    write_figure(IMAGES / f"camvid-cost-{precision}.png", over_cost)
    curves = draw_curves(results.outcomes)
    write_figure(IMAGES / f"camvid-curves-{precision}.png", curves)


def main():
    args = parse_args()
    gather(args.work_dirs)
    for (document, name), content in blocks().items():
        update_block(document, name, content)
    with replacing(METAFILE) as partial:
        dump({"Models": models()}, partial, file_format="yaml", sort_keys=False)
    for precision, results in read_results().items():
        draw(precision, results)


if __name__ == "__main__":
    main()
