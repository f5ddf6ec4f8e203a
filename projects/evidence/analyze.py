"""What the runs in results/ say: statistics, and the tables of the documents."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev, variance

import numpy as np
from scipy.stats import t

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PLANNED_PAIRS = 3  # of network and data set, in the mean over all
AFTERWARDS = (RESULTS / "diagnosis", RESULTS / "test")
Arms = dict[str, dict[float, dict]]  # arm -> seed or learning rate -> result
Interval = tuple[float, float]  # centre and half-width


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and half-width of its confidence interval; infinite for one value."""
    return pooled_interval([values], level)


def pooled_interval(groups: Sequence[Sequence[float]], level: float = 0.95) -> Interval:
    """The mean of the means of groups, which are taken to vary alike."""
    centre = mean(map(mean, groups))
    degrees = sum(len(group) - 1 for group in groups)
    if degrees == 0:
        return centre, math.inf
    squares = sum((len(g) - 1) * variance(g) for g in groups if len(g) > 1)
    error = math.sqrt(squares / degrees * sum(1 / len(g) for g in groups)) / len(groups)
    return centre, t.ppf((1 + level) / 2, degrees) * error


def over_collections(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Bounds of the difference in mIoU, had other collections been photographed.

    They are the 95 % of 2000 draws of as many collections, with replacement. Both are
    (seeds, collections, 3, classes), areas as in evaluation.py; seeds are averaged.
    """
    random = np.random.default_rng(0)
    number = ours.shape[1]
    differences = []
    for _ in range(2000):
        drawn = random.integers(number, size=number)
        scores = []
        for areas in (ours, theirs):
            intersections, unions, labels = areas[:, drawn].sum(1).transpose(1, 0, 2)
            iou = intersections / np.maximum(unions, 1)
            scores.append(100 * iou.mean(0)[labels[0] > 0].mean())
        differences.append(scores[0] - scores[1])
    return tuple(np.percentile(differences, [2.5, 97.5]))


def read(folder: Path, key: str = "seed") -> dict[tuple[str, str], Arms]:
    """Results by network and data set, then by arm, then by ``key``.

    Of what was measured on the network of a run afterwards, only that of runs which
    count, those with a result.

    Raises:
        ValueError: Two files hold the same run, say at two learning rates.
    """
    results = defaultdict(lambda: defaultdict(dict))
    for path in sorted(folder.glob("*_seed*.json")):
        if folder in AFTERWARDS and not (RESULTS / path.name).exists():
            continue
        run = json.loads(path.read_text("utf-8"))
        runs = results[run["network"], run["dataset"]][run["arm"]]
        if run[key] in runs:
            raise ValueError(f"{path} holds the same run as another file beside it")
        runs[run[key]] = run
    return results


def read_costs() -> dict[tuple[str, str], dict[str, dict]]:
    """What cost.py has measured, by network and data set, then by arm."""
    costs = defaultdict(dict)
    for cost in json.loads((RESULTS / "cost.json").read_text("utf-8"))["costs"]:
        for network in (cost["network"], f"{cost['network']}-pretrained"):
            costs[network, cost["dataset"]][cost["arm"]] = cost
    for arms in costs.values():
        arms["constant"] = arms["control"]  # once its kernels are fused
    return costs


def common_seeds(first: dict, second: dict) -> list[int]:
    """The seeds that two arms have in common."""
    return sorted(first.keys() & second.keys())


def without_seed(arms: Arms, seed: int) -> Arms:
    """The arms less the runs from one seed."""
    return {
        arm: {s: run for s, run in runs.items() if s != seed}
        for arm, runs in arms.items()
    }


def differences(arms: Arms, arm: str, key: str = "mIoU") -> list[float]:
    """The dynamic network less an arm, of each seed that both have."""
    ours, theirs = arms.get("dynamic", {}), arms[arm]
    return [ours[s][key] - theirs[s][key] for s in common_seeds(ours, theirs)]


def show(value: Interval) -> list[str]:
    """The centre and the bounds of an interval."""
    centre, half = value
    bounds = f"{centre - half:+.2f} to {centre + half:+.2f}"
    return [f"{centre:+.2f}", bounds if half < math.inf else "none"]


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{deviation}"


def table(rows: list[list[str]]) -> str:
    """Rows, the first of which is the head, in Markdown; empty without a second."""
    rule = [":--"] + ["--:"] * (len(rows[0]) - 1)
    lines = [f"| {' | '.join(row)} |\n" for row in [rows[0], rule, *rows[1:]]]
    return "".join(lines) if len(rows) > 1 else ""


def arms_table(arms: Arms, costs: dict[str, dict]) -> str:
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


def differences_table(arms: Arms) -> str:
    """The dynamic network less every other, paired by seed."""
    rows = [["dynamic minus", "seeds", "whole images", "95 %", "windows", "95 %"]]
    for arm in arms:
        pairs = differences(arms, arm)
        if arm != "dynamic" and pairs:
            windows = differences(arms, arm, "windows_mIoU")
            scores = show(interval(pairs)) + show(interval(windows))
            rows.append([arm, f"{len(pairs)}", *scores])
    return table(rows)


def classes_table(arms: Arms) -> str:
    """The dynamic network less its control, by class."""
    ours, theirs = arms.get("dynamic", {}), arms.get("control", {})
    seeds = common_seeds(ours, theirs)
    rows = [["dynamic minus control", "whole images", "95 %", "windows", "95 %"]]
    if len(seeds) < 2:
        return ""
    for name in ours[seeds[0]]["class_IoU"]:
        row = [name]
        for key in ("class_IoU", "windows_class_IoU"):
            pairs = [ours[s][key][name] - theirs[s][key][name] for s in seeds]
            row += show(interval(pairs))
        rows.append(row)
    return table(rows)


def coefficients_table(arms: Arms) -> str:
    """How far coefficients move, and the mIoU that it costs to fix them."""
    head = ["arm", "seeds", "SD between images", "% of the total SD"]
    head += ["fixed", "95 %", "norms fitted", "both", "fixed minus control", "95 %"]
    rows = [head]
    for arm, runs in arms.items():
        runs = {seed: run for seed, run in runs.items() if "fixed_mIoU" in run}
        if not runs:
            continue
        deviation, share = (
            mean(run[f"between_image_{key}"] for run in runs.values())
            for key in ("std", "share")
        )
        fixed, fitted, both = (
            show(interval([run[key] - run["mIoU"] for run in runs.values()]))
            for key in ("fixed_mIoU", "fitted_mIoU", "fixed_fitted_mIoU")
        )
        control = arms.get("control", {})
        seeds = common_seeds(runs, control)
        pairs = [runs[s]["fixed_mIoU"] - control[s]["mIoU"] for s in seeds]
        below = show(interval(pairs)) if pairs else ["", ""]
        row = [arm, f"{len(runs)}", f"{deviation:.3f}", f"{100 * share:.0f}"]
        rows.append([*row, *fixed, fitted[0], both[0], *below])
    return table(rows)


def collections_table(arms: Arms) -> str:
    """The dynamic network less others, with bounds for other photographs."""
    rows = [["dynamic minus", "seeds", "collections", "whole images", "95 %"]]
    for arm, runs in arms.items():
        seeds = common_seeds(runs, arms.get("dynamic", {}))
        if arm == "dynamic" or not seeds:
            continue
        ours, theirs = (
            np.array([list(arms[a][seed]["areas"].values()) for seed in seeds])
            for a in ("dynamic", arm)
        )
        if (number := ours.shape[1]) > 1:
            low, high = over_collections(ours, theirs)
            bounds = f"{low:+.2f} to {high:+.2f}"
            centre = f"{mean(differences(arms, arm)):+.2f}"
            rows.append([arm, f"{len(seeds)}", f"{number}", centre, bounds])
    return table(rows)


def sweep_table(arms: Arms) -> str:
    """The mIoU on whole images by learning rate."""
    rates = sorted({rate for runs in arms.values() for rate in runs})
    rows = [["learning rate", *map(str, rates)]]
    for arm, runs in arms.items():
        scores = (f"{runs[rate]['mIoU']:.2f}" if rate in runs else "" for rate in rates)
        rows.append([arm, *scores])
    return table(rows)


def overall_table(results: dict[tuple[str, str], Arms]) -> str:
    """Dynamic minus control over networks and data sets, each of equal weight."""
    rows = [["dynamic minus control", "seeds", "whole images", "95 %"]]
    groups = {
        key: differences(arms, "control")
        for key, arms in sorted(results.items())
        if "pretrained" not in key[0] and "control" in arms
    }
    groups = {key: pairs for key, pairs in groups.items() if len(pairs) > 1}
    for (network, dataset), pairs in groups.items():
        name = f"{network}, {dataset}"
        rows.append([name, f"{len(pairs)}", *show(interval(pairs))])
    if len(groups) == PLANNED_PAIRS:
        pooled = show(pooled_interval(list(groups.values())))
        rows.append(["mean of these", "", *pooled])
    return table(rows)


def judged(arms: Arms) -> dict[str, Arms]:
    """What judge.py has measured, by the part of the test split."""
    parts = defaultdict(lambda: defaultdict(dict))
    for arm, runs in arms.items():
        for seed, run in runs.items():
            for part, scores in run["parts"].items():
                parts[part][arm][seed] = scores
    return parts


def results_page() -> str:
    """The tables of README.md."""
    results, costs = read(RESULTS), read_costs()
    diagnosis, judge = read(RESULTS / "diagnosis"), read(RESULTS / "test")
    tuned = read(RESULTS / "rates", "lr")  # by seed 0
    parts = ["### Overall\n", overall_table(results)]
    for key, arms in sorted(results.items()):
        parts.append("### {} on {}\n".format(*key))
        parts += [arms_table(arms, costs[key]), differences_table(arms)]
        others = without_seed(arms, 0) if key in tuned else {}
        for title, content in {
            "Without seed 0, which chose the learning rates": differences_table(others),
            "By class": classes_table(arms),
            "Other photographs": collections_table(diagnosis[key]),
            "Coefficients": coefficients_table(diagnosis[key]),
        }.items():
            parts += [f"{title}:\n", content] if content else []
        for part, runs in judged(judge[key]).items():
            parts += [f"Test split, {part}:\n", arms_table(runs, costs[key])]
            parts.append(differences_table(runs))
    return "\n".join(part for part in parts if part)


def tuning_tables() -> str:
    """The tables of PROTOCOL.md."""
    whole, results = read(RESULTS / "rates", "lr"), read(RESULTS)
    for key, arms in whole.items():
        for arm, tried in arms.items():
            if chosen := results[key][arm].get(0):
                if chosen["lr"] in tried:
                    raise ValueError(f"{key}, {arm}: rates/ has the rate of results/")
                tried[chosen["lr"]] = chosen
    parts = []
    for title, tuned in {
        "500 iterations": read(RESULTS / "sweep", "lr"),
        "whole runs": whole,
    }.items():
        for key, arms in sorted(tuned.items()):
            parts += ["{} on {}, {}:\n".format(*key, title), sweep_table(arms)]
    return "\n".join(parts)
