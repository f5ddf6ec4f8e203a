"""Draw images/cost.png from the files in results/."""

from statistics import mean, stdev

from analyze import FOLDER, read_costs, series
from matplotlib.figure import Figure

from mmseg_dynet.files import write_figure

STYLES = {  # colour and marker
    "dynamic": ("C3", "o"),
    "control": ("C0", "s"),
    "narrowed": ("C2", "^"),
    "twin": ("0.3", "D"),
    "constant": ("C1", "v"),
    "one-kernel": ("C4", "P"),  # the best of the variants
}


def main() -> None:
    """Plot mIoU over cost; the bars are standard deviations over seeds."""
    costs, results = read_costs(), [*series()]
    figure = Figure(figsize=(9, 3 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 2, squeeze=False, sharey="row")
    for row, (name, _, key, arms) in zip(axes, results, strict=True):
        row[0].set(title=name, ylabel="mIoU, %", xlabel="GMACs per image")
        row[1].set(xlabel="ms per image, one thread")
        for arm, (colour, marker) in STYLES.items():
            if arm not in arms:
                continue
            scores = [run["mIoU"] for run in arms[arm].values()]
            bar = stdev(scores) if len(scores) > 1 else None
            style = dict(color=colour, marker=marker, linestyle="", capsize=4)
            cost = costs[key][arm]
            for axis, x in zip(row, (cost["macs"] / 1e9, cost["ms"]), strict=True):
                label = f"{arm} ({len(scores)})"
                axis.errorbar(x, mean(scores), bar, label=label, **style)
        for axis in row:
            axis.set_xlim(0, 1.2 * axis.get_xlim()[1])  # equal costs look equal
        row[0].legend(fontsize="small", loc="upper center", title="arm (seeds)")
    limits = [row[0].get_ylim() for row in axes]
    half = max(high - low for low, high in limits) / 2
    for row, (low, high) in zip(axes, limits, strict=True):  # lengths compare
        row[0].set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    write_figure(FOLDER / "images/cost.png", figure)


if __name__ == "__main__":
    main()
