"""Tables and pictures of a study: arms, each trained from several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy.stats import ttest_ind

from mmseg_dynet.markdown import markdown_table

from .inference_modes import SLIDING, WHOLE
from .outcome import Outcome


@dataclass(frozen=True)
class Cost:
    """What an arm costs for one image.

    Attributes:
        params: Parameters, 10^6.
        gmacs: Multiply-accumulates, 10^9, of the image as it is tested, in windows.
        ms: Its median latency in milliseconds.
        whole_gmacs: Multiply-accumulates of the image as a whole.
        whole_ms: Its median latency.
    """

    params: float
    gmacs: float
    ms: float
    whole_gmacs: float
    whole_ms: float


def read_outcomes(folder: Path) -> dict[str, list[Outcome]]:
    """Read every outcome of a folder.

    Args:
        folder: JSON files that :meth:`Outcome.write` wrote, NAME-seedN.json.

    Returns:
        Outcomes by arm, arms in the order of their files, outcomes in that of their
        seeds; none if there are none.

    Raises:
        ValueError: They were computed in several precisions, so that they do not
            compare.
    """
    arms: dict[str, list[Outcome]] = {}
    precisions: dict[str, Path] = {}
    for path in sorted(folder.glob("*-seed*.json")):
        outcome = Outcome.read(path)
        arms.setdefault(outcome.arm, []).append(outcome)
        precisions[outcome.precision] = path
    if len(precisions) > 1:
        found = ", ".join(f"{name} ({path})" for name, path in precisions.items())
        raise ValueError(
            f"outcomes of one study have one precision, found {found}: give each a "
            "folder of its own"
        )
    return {arm: sorted(arms[arm], key=lambda outcome: outcome.seed) for arm in arms}


def arms_table(
    arms: Mapping[str, Sequence[Outcome]],
    costs: Mapping[str, Cost],
    static_twins: Mapping[str, str],
    modes: Mapping[str, Sequence[Mapping]],
) -> str:
    """A row an arm: mean mIoU over seeds, each seed's, cost, and what is saved.

    Args:
        arms: Outcomes by arm, in the order of the rows.
        costs: Cost of each arm, and of each arm's static twin.
        static_twins: Of each arm the one that it is measured against.
        modes: As for :func:`modes_table`, of some arms; that of whole images is the
            mean mIoU of their mode "whole image".

    Returns:
        A Markdown table.
    """
    table = markdown_table(
        "arm",
        "params, M",
        "mIoU, %",
        "seeds",
        "GMACs",
        "saved, %",
        "ms",
        "mIoU, whole",
        "GMACs, whole",
        "ms, whole",
    )
    for arm, outcomes in arms.items():
        cost, scores = costs[arm], [outcome.val_mIoU for outcome in outcomes]
        table.add_row(
            [
                arm,
                f"{cost.params:.2f}",
                f"{mean(scores):.2f}",
                ", ".join(f"{score:.2f}" for score in scores),
                f"{cost.gmacs:.2f}",
                f"{100 * (1 - cost.gmacs / costs[static_twins[arm]].gmacs):.1f}",
                f"{cost.ms:.1f}",
                f"{mean(_scores(modes[arm], WHOLE)):.2f}" if arm in modes else "-",
                f"{cost.whole_gmacs:.2f}",
                f"{cost.whole_ms:.1f}",
            ]
        )
    return str(table)


def classes_table(arms: Mapping[str, Sequence[Outcome]]) -> str:
    """A row a class, a column an arm: mean IoU over seeds, as a Markdown table."""
    names = list(next(iter(arms.values()))[0].class_IoU)
    table = markdown_table("class", *arms)
    for name in names:
        means = [
            mean(o.class_IoU[name] for o in outcomes) for outcomes in arms.values()
        ]
        table.add_row([name, *(f"{value:.1f}" for value in means)])
    return str(table)


def differences_table(modes: Mapping[str, Sequence[Mapping]], arm: str) -> str:
    """How far an arm is from each other one, and how well its few seeds say so.

    Args:
        modes: As for :func:`modes_table`.
        arm: One of them.

    Returns:
        A Markdown table: mean difference in mIoU with its 95 % confidence interval, by
        Welch's t-test, where both arms see images in windows, where both see them
        whole, and where each sees them in the one of the two ways that suits it better.

    Raises:
        ValueError: An arm has a single seed, which says nothing of the others.
    """
    for name, reports in modes.items():
        if len(reports) < 2:
            raise ValueError(
                f"{name} has {len(reports)} seed: an interval needs two at least"
            )
    table = markdown_table(
        f"{arm} less", "in windows", "on whole images", "each as suits it"
    )
    windows, whole = (
        {name: _scores(reports, mode) for name, reports in modes.items()}
        for mode in (SLIDING, WHOLE)
    )
    suited = {name: max(windows[name], whole[name], key=mean) for name in modes}
    for other in modes:
        if other != arm:
            columns = [_difference(s[arm], s[other]) for s in (windows, whole, suited)]
            table.add_row([other, *columns])
    return str(table)


def _difference(scores: Sequence[float], others: Sequence[float]) -> str:
    low, high = ttest_ind(scores, others, equal_var=False).confidence_interval(0.95)
    return f"{mean(scores) - mean(others):+.2f} ({low:+.2f} .. {high:+.2f})"


def modes_table(arms: Mapping[str, Sequence[Mapping]]) -> str:
    """A row a mode of inference, a column an arm: mean mIoU over seeds.

    Args:
        arms: By arm, what ``tools/analysis_tools/inference_modes.py --json`` wrote for
            each seed.

    Returns:
        A Markdown table; "-" where an arm does not have the mode. The last column is
        by how much the coefficients moved from those of the whole image, the mean over
        the dynamic networks that were tested in most modes, so that rows compare.

    Raises:
        ValueError: The seeds of an arm were not tested in the same modes.
    """
    for arm, reports in arms.items():
        for report in reports:
            if [*report["modes"]] != [*reports[0]["modes"]]:
                raise ValueError(
                    f"{arm} was tested in {', '.join(reports[0]['modes'])} from one "
                    f"seed and in {', '.join(report['modes'])} from another: run "
                    "tools/analysis_tools/inference_modes.py again"
                )
    modes = dict.fromkeys(m for reports in arms.values() for m in reports[0]["modes"])
    most = max(len(reports[0]["modes"]) for reports in arms.values())
    table = markdown_table("mIoU, %", *arms, "coefficients moved")
    for mode in modes:
        found = {
            a: reports for a, reports in arms.items() if mode in reports[0]["modes"]
        }
        scores = {arm: mean(_scores(reports, mode)) for arm, reports in found.items()}
        moved = [
            report["modes"][mode]["coefficient_difference"]
            for reports in found.values()
            for report in reports
            if len(report["modes"]) == most
        ]
        moved = [difference for difference in moved if difference is not None]
        table.add_row(
            [
                mode,
                *(f"{scores[arm]:.2f}" if arm in scores else "-" for arm in arms),
                f"{mean(moved):.4f}" if moved else "-",
            ]
        )
    return str(table)


def windows_table(arms: Mapping[str, Sequence[Mapping]]) -> str:
    """A row a size of the windows, a column an arm: mIoU.

    Args:
        arms: By arm, what ``tools/analysis_tools/inference_modes.py --json`` wrote for
            each size of the windows, in the order of the rows.

    Returns:
        A Markdown table.
    """
    table = markdown_table("windows", *arms)
    for reports in zip(*arms.values(), strict=True):
        height, width = reports[0]["crop"]
        scores = [f"{score:.2f}" for score in _scores(reports, SLIDING)]
        table.add_row([f"{height} x {width}", *scores])
    return str(table)


def _scores(reports: Sequence[Mapping], mode: str) -> list[float]:
    """The mIoU of each seed in a mode of inference."""
    return [report["modes"][mode]["metrics"]["mIoU"] for report in reports]


def model_entry(outcomes: Sequence[Outcome]) -> dict:
    """An arm's entry in a ``metafile.yml``, in the format of OpenMMLab's model index.

    Args:
        outcomes: Of one arm, at least one.

    Returns:
        Its mIoU is the mean over seeds. There are no weights to name.
    """
    config = outcomes[0].config
    score = round(mean(outcome.val_mIoU for outcome in outcomes), 2)
    return {
        "Name": Path(config).stem,
        "Config": config,
        "Metadata": {
            "Training Data": "CamVid",
            "Precision": outcomes[0].precision,
            "Seeds": len(outcomes),
        },
        "Results": [
            {
                "Task": "Semantic Segmentation",
                "Dataset": "CamVid val",
                "Metrics": {"mIoU": score},
            }
        ],
    }


def draw_accuracy_over_cost(
    arms: Mapping[str, Sequence[Outcome]],
    costs: Mapping[str, Cost],
    modes: Mapping[str, Sequence[Mapping]],
) -> Figure:
    """Plot mIoU over GMACs and over latency.

    A dot is a seed, a ring the mean over seeds, both as tested, in windows; a square is
    the mean on whole images.

    Args:
        arms: Outcomes by arm.
        costs: Cost of each arm.
        modes: As for :func:`arms_table`.
    """
    figure = Figure(figsize=(10, 5), layout="constrained")
    over_macs, over_time = figure.subplots(1, 2, sharey=True)
    for number, (arm, outcomes) in enumerate(arms.items()):
        scores = [outcome.val_mIoU for outcome in outcomes]
        cost, color = costs[arm], f"C{number}"
        for axes, x, whole_x in (
            (over_macs, cost.gmacs, cost.whole_gmacs),
            (over_time, cost.ms, cost.whole_ms),
        ):
            hollow = dict(s=80, ec=color, fc="none")
            axes.scatter([x] * len(scores), scores, s=12, color=color)
            axes.scatter(x, mean(scores), label=arm, **hollow)
            if arm in modes:
                whole = mean(_scores(modes[arm], WHOLE))
                axes.scatter(whole_x, whole, marker="s", **hollow)
    over_macs.set(xlabel="GMACs", ylabel="mIoU, %", xscale="log")
    over_time.set(xlabel="ms", xscale="log")
    figure.legend(
        *over_macs.get_legend_handles_labels(),
        loc="outside lower center",
        title="ring: mean in windows, dot: one seed; square: mean on whole images",
        ncols=4,
        fontsize=8,
        title_fontsize=8,
    )
    for axes in (over_macs, over_time):
        axes.grid(alpha=0.3, which="both")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    return figure


def draw_curves(arms: Mapping[str, Sequence[Outcome]]) -> Figure:
    """Plot mIoU over iterations: a line a seed, a colour an arm."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (arm, outcomes) in enumerate(arms.items()):
        for outcome in outcomes:
            label = arm if outcome is outcomes[0] else None
            axes.plot(*zip(*outcome.curve, strict=True), f"C{number}", label=label)
    axes.set(xlabel="iteration", ylabel="mIoU, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure
