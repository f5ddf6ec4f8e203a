"""Draw images/cost.png from the files in results/."""

from statistics import mean, stdev

from analyze import FOLDER, RESULTS, read, read_costs, title
from matplotlib.figure import Figure

from mmseg_dynet.files import write_figure

STYLES = {  # colour and marker
    "dynamic": ("C3", "o"),
    "control": ("C0", "s"),
    "narrowed": ("C2", "^"),
    "twin": ("0.3", "D"),
    "constant": ("C1", "v"),
}
SPAN = 4  # points of mIoU that each row shows at least, so that lengths compare


def main() -> None:
    """Plot mIoU over cost; the bars are standard deviations over seeds."""
    costs, results = read_costs(), read(RESULTS)
    figure = Figure(figsize=(9, 3 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 2, squeeze=False, sharey="row")
    for row, (key, arms) in zip(axes, sorted(results.items()), strict=True):
        scores = {
            arm: [run["mIoU"] for run in arms[arm].values()]
            for arm in STYLES
            if arm in arms
        }
        means = {arm: mean(values) for arm, values in scores.items()}
        middle = (max(means.values()) + min(means.values())) / 2
        row[0].set(title=title(key), ylabel="mIoU, %")
        half = max(SPAN, max(means.values()) - min(means.values()) + 2) / 2
        row[0].set(xlabel="GMACs per image", ylim=(middle - half, middle + half))
        row[1].set(xlabel="ms per image, one thread")
        for arm, values in scores.items():
            cost = costs[key][arm]
            bar = stdev(values) if len(values) > 1 else None
            colour, marker = STYLES[arm]
            style = dict(color=colour, marker=marker, linestyle="", capsize=4)
            for axis, x in zip(row, (cost["macs"] / 1e9, cost["ms"]), strict=True):
                label = f"{arm} ({len(values)})"
                axis.errorbar(x, means[arm], bar, label=label, **style)
        for axis in row:
            axis.set_xlim(0, 1.2 * axis.get_xlim()[1])  # equal costs look equal
        row[0].legend(fontsize="small", loc="upper left", title="arm (seeds)")
    write_figure(FOLDER / "images/cost.png", figure)


if __name__ == "__main__":
    main()
