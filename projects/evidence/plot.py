"""Draw images/cost.png from the files in results/."""

from statistics import mean, stdev

from analyze import FOLDER, RESULTS, read, read_costs
from matplotlib.figure import Figure

from mmseg_dynet.files import write_figure

COLOURS = {"dynamic": "C3", "control": "C0", "narrowed": "C2", "twin": "0.3"}


def main() -> None:
    """Plot mIoU over cost; the bars are standard deviations over seeds."""
    costs = read_costs()
    results = {key: arms for key, arms in read(RESULTS).items() if len(arms) > 1}
    figure = Figure(figsize=(9, 3.2 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 2, squeeze=False, sharey="row")
    for row, (key, arms) in zip(axes, sorted(results.items()), strict=True):
        iterations = {
            run["iterations"] for runs in arms.values() for run in runs.values()
        }
        title = "{} on {}, {} iterations".format(*key, "/".join(map(str, iterations)))
        row[0].set(title=title, xlabel="GMACs per image", ylabel="mIoU, %")
        row[1].set(xlabel="ms per image, one thread")
        for size, (arm, runs) in enumerate(arms.items(), 3):
            scores = [run["mIoU"] for run in runs.values()]
            cost = costs[key][arm]
            bar = stdev(scores) if len(scores) > 1 else None
            label = f"{arm} ({len(scores)})"
            for axis, x in zip(row, (cost["macs"] / 1e9, cost["ms"]), strict=True):
                # Sizes differ, since arms of equal cost overlap.
                style = dict(fmt="o", capsize=2 * size, markersize=size)
                style["color"] = COLOURS.get(arm)
                axis.errorbar(x, mean(scores), bar, label=label, **style)
        for axis in row:
            axis.set_xlim(0, 1.2 * axis.get_xlim()[1])  # equal costs look equal
        row[0].legend(fontsize="small", loc="upper left", title="arm (seeds)")
    write_figure(FOLDER / "images/cost.png", figure)


if __name__ == "__main__":
    main()
