"""The tables of README.md, in Markdown, from the files in results/.

README.md calls these functions in blocks of cog: `cog -r projects/*/README.md`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from scipy.stats import ttest_ind

from .arms import ARMS, MAIN_ARMS, RESULTS

SLIDING, WHOLE = "sliding window", "whole image"


def markdown(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Lay out a table: the first column is flush left, the others flush right."""
    head = list(head)
    lines = [head, [":--"] + ["--:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def read_runs(folder: Path) -> dict[str, list[dict]]:
    """Read the files of each seed, by arm; arms without a file are left out."""
    runs = {}
    for name, arm in ARMS.items():
        paths = sorted(folder.glob(f"{arm.network}-seed*.json"))
        if paths:
            runs[name] = [read(path) for path in paths]
    return runs


def scores(modes: list[dict], mode: str) -> list[float]:
    """Return the mIoU of each seed in a mode of inference."""
    return [run["modes"][mode]["metrics"]["mIoU"] for run in modes]


def arms_table(precision: str) -> str:
    """Tabulate cost and mIoU per arm."""
    runs = read_runs(RESULTS / precision)
    modes = read_runs(RESULTS / precision / "modes")
    report = read(RESULTS / "cost.json")
    costs = report["arms"]
    head = ["arm", "params, M", "mIoU, %", "seeds", "GMACs", "saved, %", "ms",
            "mIoU, whole", "GMACs, whole", "ms, whole"]  # fmt: skip
    rows = []
    for arm, seeds in runs.items():
        cost, twin = costs[arm], costs[ARMS[arm].static_twin]
        found = [run["val_mIoU"] for run in seeds]
        rows.append([
            arm, f"{cost['params']:.2f}", f"{mean(found):.2f}",
            ", ".join(f"{score:.2f}" for score in found), f"{cost['gmacs']:.2f}",
            f"{100 * (1 - cost['gmacs'] / twin['gmacs']):.1f}", f"{cost['ms']:.1f}",
            f"{mean(scores(modes[arm], WHOLE)):.2f}", f"{cost['whole_gmacs']:.2f}",
            f"{cost['whole_ms']:.1f}",
        ])  # fmt: skip
    return f"{markdown(head, rows)}\nMilliseconds: {report['machine']}.\n"


def differences_table() -> str:
    """Tabulate Dy-ResNet18 minus the others, with 95 % intervals by Welch's t-test."""
    modes = read_runs(RESULTS / "bfloat16/modes")
    rows = []
    for other in MAIN_ARMS:
        if other != "Dy-ResNet18":
            pairs = [
                (scores(modes["Dy-ResNet18"], mode), scores(modes[other], mode))
                for mode in (SLIDING, WHOLE)
            ]
            rows.append([other, *(difference(*pair) for pair in pairs)])
    return markdown(["Dy-ResNet18 minus", "in windows", "on whole images"], rows)


def difference(ours: list[float], others: list[float]) -> str:
    low, high = ttest_ind(ours, others, equal_var=False).confidence_interval(0.95)
    return f"{mean(ours) - mean(others):+.2f} ({low:+.2f} .. {high:+.2f})"


def modes_table(precision: str) -> str:
    """Tabulate mIoU per mode of inference and arm, the mean over seeds.

    The last column is how far the coefficients are from those of the whole image: the
    mean over the dynamic networks that were tested in most modes, so that rows compare.
    """
    runs = read_runs(RESULTS / precision / "modes")
    most = max((seeds[0]["modes"] for seeds in runs.values()), key=len)
    rows = []
    for mode in most:
        found = [
            f"{mean(scores(seeds, mode)):.2f}" if mode in seeds[0]["modes"] else "-"
            for seeds in runs.values()
        ]
        moved = mean(
            run["modes"][mode]["coefficient_difference"]
            for seeds in runs.values()
            for run in seeds
            if run["modes"].keys() == most.keys()
        )
        rows.append([mode, *found, f"{moved:.4f}"])
    return markdown(["mIoU, %", *runs, "coefficients moved"], rows)
