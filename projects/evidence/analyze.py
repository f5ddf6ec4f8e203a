"""What the runs in results/ say: the tables of the documents."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from intervals import Interval, mean_iou, over_photographs, paired, pooled, unpaired

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
SERIES = {RESULTS: "", RESULTS / "short": ", short runs"}  # folders, with their titles
AFTERWARDS = ("diagnosis", "test")  # folders beside the results of the runs
COMPARED = ("dynamic", "control", "narrowed", "twin", "constant")  # others are variants
NAMES = {
    "resnet18": "ResNet-18",
    "resnet18-pretrained": "ResNet-18, pretrained",
    "ddrnet23": "DDRNet-23",
    "labelmefacade": "LabelMeFacade",
    "camvid": "CamVid",
}
PLANNED = {  # seeds of each pair in the mean over all
    ("resnet18", "labelmefacade"): 5,
    ("ddrnet23", "labelmefacade"): 5,
    ("ddrnet23", "camvid"): 5,
}
WAYS = ("mIoU", "windows_mIoU")  # whole images, and windows
JUDGED_SEEDS = 4  # by CamVid's test split, of both arms, before its figures count
Arms = dict[str, dict[float, dict]]  # arm -> seed or learning rate -> result


def read(folder: Path, key: str = "seed") -> dict[tuple[str, str], Arms]:
    """Results by network and data set, then by arm, then by ``key``.

    Of what was measured on the network of a run afterwards, only that of runs which
    count, those with a result.

    Raises:
        ValueError: Two files hold the same run, say at two learning rates.
    """
    results = defaultdict(lambda: defaultdict(dict))
    for path in sorted(folder.glob("*_seed*.json")):
        if folder.name in AFTERWARDS and not (folder.parent / path.name).exists():
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
        arms["constant"] = arms["control"]  # as it would be with its kernels fused
    return costs


def title(key: tuple[str, str]) -> str:
    """A network and a data set, in words."""
    return " on ".join(NAMES[name] for name in key)


def series() -> Iterator[tuple[str, Path, tuple[str, str], Arms]]:
    """All results: of each series of runs its title, its folder, its key, its arms."""
    for folder, note in SERIES.items():
        for key, arms in sorted(read(folder).items()):
            yield f"{title(key)}{note}", folder, key, arms


def common_seeds(first: dict, second: dict) -> list[int]:
    """The seeds that two arms have in common."""
    return sorted(first.keys() & second.keys())


def without_seed(arms: Arms, seed: int) -> Arms:
    """The arms less the runs from one seed."""
    return {
        arm: {s: run for s, run in runs.items() if s != seed}
        for arm, runs in arms.items()
    }


def differences(
    arms: Arms, other: str, key: str = "mIoU", ours: str = "dynamic"
) -> list[float]:
    """One arm, the dynamic network, less another, of each seed that both have."""
    first, second = arms.get(ours, {}), arms.get(other, {})
    return [first[s][key] - second[s][key] for s in common_seeds(first, second)]


def bounds(value: Interval) -> str:
    """An interval, as the text of a cell."""
    known = math.isfinite(value[0])
    return "{:+.2f} to {:+.2f}".format(*value) if known else "one seed"


def show(values: Sequence[float]) -> list[str]:
    """The mean of paired differences and its interval; empty cells without any."""
    if not values:
        return ["", ""]
    return [f"{round(mean(values), 2) + 0.0:+.2f}", bounds(paired(values))]  # not -0.00


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{deviation}"


def table(rows: list[list[str]]) -> str:
    """Rows, the first of which is the head, in Markdown; empty without a second."""
    rule = [":--"] + ["--:"] * (len(rows[0]) - 1)
    lines = [f"| {' | '.join(row)} |\n" for row in [rows[0], rule, *rows[1:]]]
    return "".join(lines) if len(rows) > 1 else ""


def summary() -> str:
    """The table of README.md: cost and mIoU of all that is compared."""
    costs = read_costs()
    rows = [["", "10^6 parameters", "GMACs", "ms", "seeds", "mIoU", "dynamic minus it"]]
    for name, _, key, arms in series():
        rows.append([f"**{name}**", *[""] * 6])
        for arm in COMPARED:
            if not (runs := arms.get(arm)):
                continue
            cost = costs[key][arm]
            centre, interval = show(differences(arms, arm) if arm != "dynamic" else [])
            rows.append([
                arm,
                f"{cost['parameters'] / 1e6:.1f}",
                f"{cost['macs'] / 1e9:.2f}",
                f"{cost['ms']:.0f}",
                f"{len(runs)}",
                mean_and_deviation([run["mIoU"] for run in runs.values()]),
                f"{centre} ({interval})" if centre else "",
            ])  # fmt: skip
    return table(rows)


def arms_table(arms: Arms) -> str:
    """The mIoU of every arm, and how much of it the last fifth of training brings."""
    rows = [["arm", "seeds", "whole images", "windows", "gain of the last fifth"]]
    for arm, runs in arms.items():
        scores = ([run[key] for run in runs.values()] for key in WAYS)
        curves = (run for run in runs.values() if len(run.get("curve", ())) > 1)
        gains = [*map(last_fifth, curves)]
        gain = f"{mean(gains):.1f}" if gains else ""
        rows.append([arm, f"{len(runs)}", *map(mean_and_deviation, scores), gain])
    return table(rows)


def last_fifth(run: dict) -> float:
    """What the last fifth of the iterations adds to the mIoU."""
    start = 0.8 * run["iterations"]
    *_, before = (miou for step, miou in run["curve"] if step <= start)
    return run["mIoU"] - before


def differences_table(arms: Arms, tuned: bool = False) -> str:
    """The dynamic network less every other, by seed; if tuned, without seed 0, too."""
    head = ["dynamic minus", "seeds", "whole images", "95 %", "95 %, unpaired"]
    rows = [[*head, "windows", "95 %"]]
    notes = {"": arms, ", seed 0 left out": without_seed(arms, 0)}
    for arm in COMPARED[1:]:
        for note, some in notes.items():
            pairs, windows = (differences(some, arm, key) for key in WAYS)
            if len(pairs) > 1 and (tuned or not note):
                ours, theirs = (
                    [run["mIoU"] for run in some[a].values()] for a in ("dynamic", arm)
                )
                scores = [*show(pairs), bounds(unpaired(ours, theirs)), *show(windows)]
                rows.append([f"{arm}{note}", f"{len(pairs)}", *scores])
    return table(rows)


def variants_table(arms: Arms) -> str:
    """Variants of the dynamic network: chosen by seed 0, judged by the others."""
    rows = [["variant", "minus dynamic, seed 0", "other seeds"]]
    rows[0] += ["minus dynamic", "95 %", "minus control", "95 %"]
    others = without_seed(arms, 0)
    for arm in sorted(arms.keys() - {*COMPARED}):
        if 0 not in common_seeds(arms[arm], arms.get("dynamic", {})):
            continue
        first = arms[arm][0]["mIoU"] - arms["dynamic"][0]["mIoU"]
        scores = [
            cell
            for other in ("dynamic", "control")
            for cell in show(differences(others, other, ours=arm))
        ]
        rows.append([arm, f"{first:+.2f}", f"{len(others[arm])}", *scores])
    return table(rows)


def classes_table(arms: Arms) -> str:
    """The dynamic network less its control, by class."""
    ours, theirs = arms.get("dynamic", {}), arms.get("control", {})
    seeds = common_seeds(ours, theirs)
    rows = [["dynamic minus control", "whole images", "95 %", "windows", "95 %"]]
    if len(seeds) < 3:
        return ""
    for name in ours[seeds[0]]["class_IoU"]:
        row = [name]
        for key in ("class_IoU", "windows_class_IoU"):
            row += show([ours[s][key][name] - theirs[s][key][name] for s in seeds])
        rows.append(row)
    return table(rows)


def photographs_table(arms: Arms) -> str:
    """The dynamic network less others, had other photographs been taken."""
    rows = [["dynamic minus", "seeds", "collections", "95 %", "without the largest"]]
    for arm in COMPARED[1:]:
        seeds = common_seeds(arms.get(arm, {}), arms.get("dynamic", {}))
        pair = [
            np.array([list(arms[a][seed]["areas"].values()) for seed in seeds])
            for a in ("dynamic", arm)
            if seeds
        ]
        if not pair or (number := pair[0].shape[1]) == 1:
            continue
        largest = pair[0][0, :, 2].sum(1).argmax()  # by labelled pixels
        ours, theirs = (mean_iou(np.delete(a, largest, axis=1)) for a in pair)
        row = [arm, f"{len(seeds)}", f"{number}", bounds(over_photographs(*pair))]
        rows.append([*row, f"{ours - theirs:+.2f}"])
    return table(rows)


def coefficients_table(arms: Arms) -> str:
    """How far coefficients move, and the mIoU that it costs to fix them."""
    head = ["arm", "seeds", "SD between images", "% of the total SD"]
    head += ["fixed", "95 %", "norms re-estimated", "both"]
    rows = [[*head, "fixed minus control", "95 %"]]
    for arm, runs in arms.items():
        runs = {seed: run for seed, run in runs.items() if "fixed_mIoU" in run}
        if not runs:
            continue
        deviation, share = (
            mean(run[f"between_image_{key}"] for run in runs.values())
            for key in ("std", "share")
        )
        fixed, fitted, both = (
            show([run[key] - run["mIoU"] for run in runs.values()])
            for key in ("fixed_mIoU", "fitted_mIoU", "fixed_fitted_mIoU")
        )
        control = arms.get("control", {})
        seeds = common_seeds(runs, control)
        below = show([runs[s]["fixed_mIoU"] - control[s]["mIoU"] for s in seeds])
        row = [arm, f"{len(runs)}", f"{deviation:.3f}", f"{100 * share:.0f}"]
        rows.append([*row, *fixed, fitted[0], both[0], *below])
    return table(rows)


def judged(arms: Arms) -> dict[str, Arms]:
    """What judge.py has measured, by the part of the test split, once it counts."""
    parts = defaultdict(lambda: defaultdict(dict))
    if all(len(arms.get(a, {})) == JUDGED_SEEDS for a in ("dynamic", "control")):
        for arm, runs in arms.items():
            for seed, run in runs.items():
                for part, scores in run["parts"].items():
                    parts[part][arm][seed] = scores
    return parts


def overall() -> str:
    """The mean of dynamic minus control over networks and data sets, when complete."""
    results = read(RESULTS)
    rows = [["mean of dynamic minus control", "whole images", "95 %"]]
    for name, left_out in {
        "all seeds": [],
        "seed 0 of DDRNet left out": ["ddrnet23"],
    }.items():
        groups = []
        for key, planned in PLANNED.items():
            pairs = differences(results[key], "control")
            if len(pairs) < planned:
                return ""
            groups.append(pairs[1:] if key[0] in left_out else pairs)
        centre = mean(map(mean, groups))
        rows.append([name, f"{centre:+.2f}", bounds(pooled(groups))])
    return table(rows)


def details() -> str:
    """The tables of RESULTS.md."""
    parts = [overall()]
    for name, folder, key, arms in series():
        tuned = key in read(folder / "rates", "lr")  # by seed 0
        diagnosis, judge = (read(folder / part)[key] for part in AFTERWARDS)
        parts += [f"## {name}\n", arms_table(arms), differences_table(arms, tuned)]
        for heading, content in {
            "Variants": variants_table(arms),
            "By class": classes_table(arms),
            "Other photographs": photographs_table(diagnosis),
            "Coefficients": coefficients_table(diagnosis),
        }.items():
            parts += [f"{heading}:\n", content] if content else []
        for part, runs in judged(judge).items():
            parts += [f"Test split, {part}:\n", arms_table(runs)]
            parts.append(differences_table(runs))
    return "\n".join(part for part in parts if part)


def rates() -> str:
    """The tables of PROTOCOL.md: mIoU on whole images by learning rate."""
    whole, results = read(RESULTS / "rates", "lr"), read(RESULTS)
    for key, arms in whole.items():
        for arm, tried in arms.items():
            if chosen := results[key][arm].get(0):
                if chosen["lr"] in tried:
                    raise ValueError(f"{key}, {arm}: rates/ has the rate of results/")
                tried[chosen["lr"]] = chosen
    parts = []
    for length, tuned in {
        "500 iterations": read(RESULTS / "sweep", "lr"),
        "whole runs": whole,
    }.items():
        for key, arms in sorted(tuned.items()):
            tried = sorted({rate for runs in arms.values() for rate in runs})
            rows = [["learning rate", *map(str, tried)]]
            for arm, runs in arms.items():
                cells = [f"{runs[r]['mIoU']:.2f}" if r in runs else "" for r in tried]
                rows.append([arm, *cells])
            parts += [f"{title(key)}, {length}:\n", table(rows)]
    return "\n".join(parts)
