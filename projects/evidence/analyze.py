"""Draw images/cost.png from the files in results/; `make tables` writes the tables."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure
from scipy.stats import t

from mmseg_dynet.files import write_figure

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
Runs = dict[str, dict[float, dict]]  # arm -> seed or learning rate -> result


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of its confidence interval; infinite for one value."""
    if len(values) < 2:
        return mean(values), math.inf
    quantile = t.ppf((1 + level) / 2, len(values) - 1)
    return mean(values), quantile * stdev(values) / math.sqrt(len(values))


def read(folder: Path, key: str = "seed") -> dict[tuple[str, str], Runs]:
    """Results by network and data set, then by arm, then by ``key``."""
    runs = defaultdict(lambda: defaultdict(dict))
    for path in sorted(folder.glob("*_seed*.json")):
        run = json.loads(path.read_text("utf-8"))
        runs[run["network"], run["dataset"]][run["arm"]][run[key]] = run
    return runs


def read_costs() -> dict[tuple[str, str], dict[str, dict]]:
    """What cost.py has measured, by network and data set, then by arm."""
    costs = defaultdict(dict)
    for cost in json.loads((RESULTS / "cost.json").read_text("utf-8"))["costs"]:
        for network in (cost["network"], f"{cost['network']}-pretrained"):
            costs[network, cost["dataset"]][cost["arm"]] = cost
    return costs


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{deviation}"


def table(rows: list[list[str]]) -> str:
    """Rows, the first of which is the head, in Markdown."""
    rule = [":--"] + ["--:"] * (len(rows[0]) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in [rows[0], rule, *rows[1:]])


def arms_table(arms: Runs, costs: dict[str, dict]) -> str:
    """Every arm's cost and mIoU."""
    rows = [["arm", "GMACs", "ms", "seeds", "mIoU, whole images", "mIoU, windows"]]
    for arm, runs in arms.items():
        rows.append([
            arm,
            f"{costs[arm]['macs'] / 1e9:.2f}",
            f"{costs[arm]['ms']:.0f}",
            f"{len(runs)}",
            mean_and_deviation([run["mIoU"] for run in runs.values()]),
            mean_and_deviation([run["windows_mIoU"] for run in runs.values()]),
        ])  # fmt: skip
    return table(rows)


def differences_table(arms: Runs) -> str:
    """The dynamic network less every other, paired by seed."""
    rows = [["dynamic minus", "pairs", "whole images", "95 %", "windows", "95 %"]]
    dynamic = arms.get("dynamic", {})
    for arm, runs in arms.items():
        seeds = sorted(runs.keys() & dynamic.keys())
        if arm == "dynamic" or not seeds:
            continue
        row = [arm, f"{len(seeds)}"]
        for key in ("mIoU", "windows_mIoU"):
            pairs = [dynamic[seed][key] - runs[seed][key] for seed in seeds]
            centre, half = interval(pairs)
            bounds = f"{centre - half:+.2f} to {centre + half:+.2f}"
            row += [f"{centre:+.2f}", bounds if half < math.inf else "none"]
        rows.append(row)
    return table(rows) if len(rows) > 1 else ""


def fixed_table(arms: Runs) -> str:
    """How far coefficients move, and the mIoU that it costs to fix them."""
    rows = [["arm", "seeds", "deviation between images", "share of all", "fixed minus"]]
    for arm, runs in arms.items():
        values = list(runs.values())
        costs = [run["fixed_mIoU"] - run["mIoU"] for run in values]
        deviation, share = (
            mean(run[f"between_image_{key}"] for run in values)
            for key in ("std", "share")
        )
        row = [arm, f"{len(runs)}", f"{deviation:.3f}", f"{100 * share:.0f} %"]
        rows.append([*row, mean_and_deviation(costs)])
    return table(rows)


def judged(arms: Runs) -> dict[str, Runs]:
    """What judge.py has measured, by the part of the test split."""
    parts = defaultdict(lambda: defaultdict(dict))
    for arm, runs in arms.items():
        for seed, run in runs.items():
            for part, scores in run["parts"].items():
                parts[part][arm][seed] = scores
    return parts


def sweep_table(arms: Runs) -> str:
    """The mIoU on whole images by learning rate."""
    rates = sorted({rate for runs in arms.values() for rate in runs})
    rows = [["learning rate", *map(str, rates)]]
    for arm, runs in arms.items():
        scores = (f"{runs[rate]['mIoU']:.2f}" if rate in runs else "" for rate in rates)
        rows.append([arm, *scores])
    return table(rows)


def plot(results: dict[tuple[str, str], Runs], costs: dict) -> None:
    """Plot mIoU over cost; the bars are standard deviations."""
    datasets = sorted({dataset for _, dataset in results})
    figure = Figure(figsize=(9, 4 * len(datasets)), layout="constrained")
    axes = figure.subplots(len(datasets), 2, squeeze=False, sharey="row")
    for row, dataset in zip(axes, datasets, strict=True):
        row[0].set(title=dataset, xlabel="GMACs per image", ylabel="mIoU, %")
        row[1].set(title=dataset, xlabel="ms per image, one thread")
        for network in sorted({n for n, d in results if d == dataset}):
            for size, (arm, runs) in enumerate(results[network, dataset].items(), 3):
                scores = [run["mIoU"] for run in runs.values()]
                cost = costs[network, dataset][arm]
                bar = stdev(scores) if len(scores) > 1 else None
                label = f"{network}, {arm} ({len(scores)})"
                for axis, x in zip(row, (cost["macs"] / 1e9, cost["ms"]), strict=True):
                    # Sizes differ, since arms of equal cost overlap.
                    style = dict(fmt="o", capsize=2 * size, markersize=size)
                    axis.errorbar(x, mean(scores), bar, label=label, **style)
        for axis in row:
            axis.set_xlim(0, 1.2 * axis.get_xlim()[1])  # equal costs look equal
        row[0].legend(fontsize="small", loc="upper left", title="network, arm (seeds)")
    write_figure(FOLDER / "images/cost.png", figure)


def tables() -> str:
    """All tables of README.md."""
    sweeps, results, costs = read(RESULTS / "sweep", "lr"), read(RESULTS), read_costs()
    all_fixed, all_judged = read(RESULTS / "fixed"), read(RESULTS / "test")
    parts = []
    for key in sorted(sweeps | results):
        parts.append("### {} on {}\n".format(*key))
        if key in sweeps:
            parts += ["Tuning (500 iterations, one seed):\n", sweep_table(sweeps[key])]
        if runs := results.get(key):
            parts += [arms_table(runs, costs[key]), differences_table(runs)]
        if key in all_fixed:
            parts += ["Coefficients:\n", fixed_table(all_fixed[key])]
        for part, runs in judged(all_judged[key]).items():
            parts.append(f"Test split, {part}:\n")
            parts += [arms_table(runs, costs[key]), differences_table(runs)]
    return "\n".join(parts)


if __name__ == "__main__":
    plot(read(RESULTS), read_costs())
