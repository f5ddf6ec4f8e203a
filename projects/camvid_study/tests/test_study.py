"""Tables and pictures of a study say what its outcomes say."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load
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

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, windows_shape
from mmseg_dynet.markdown import read_block

ROOT = Path(__file__).parents[2]
COSTS = {
    "Res": Cost(params=11.0, gmacs=10.0, ms=99.94, whole_gmacs=6.0, whole_ms=60.0),
    "Dy": Cost(params=20.0, gmacs=3.0, ms=30.0, whole_gmacs=1.8, whole_ms=20.0),
}
# Of the two seeds of "Dy".
WHOLE_IMAGES = [
    {"modes": {"whole image": {"metrics": {"mIoU": score}}}} for score in (52.0, 52.5)
]


@pytest.fixture
def arms(tmp_path):
    for arm, seed, score in (("Dy", 1, 50.0), ("Res", 0, 48.0), ("Dy", 0, 51.0)):
        Outcome(
            arm, f"{arm}.py", seed, "abc", score, {"road": score + 1, "car": 2.0},
            [(1, 20.0), (2, score)], 3.0, "float32", "machine", "command",
        ).write(tmp_path / f"{arm}-seed{seed}.json")  # fmt: skip
    (tmp_path / "cost.json").write_text("not an outcome")
    return read_outcomes(tmp_path)


def cells(table: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in table.splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_outcomes_are_by_arm_in_the_order_of_seeds(arms):
    assert {arm: [o.seed for o in arms[arm]] for arm in arms} == {
        "Dy": [0, 1],
        "Res": [0],
    }


def test_each_arm_has_a_row(arms):
    twins = dict.fromkeys(COSTS, "Res")
    rows = {arm: arms[arm] for arm in ("Res", "Dy")}
    table = arms_table(rows, COSTS, twins, {"Dy": WHOLE_IMAGES})
    assert cells(table) == [
        ["Res", "11.00", "48.00", "48.00", "10.00", "0.0", "99.9", "-", "6.00", "60.0"],
        ["Dy", "20.00", "50.50", "51.00, 50.00", "3.00", "70.0", "30.0",
         "52.25", "1.80", "20.0"],
    ]  # fmt: skip


def test_each_class_has_a_row(arms):
    ordered = {arm: arms[arm] for arm in ("Res", "Dy")}
    assert cells(classes_table(ordered)) == [
        ["road", "49.0", "51.5"], ["car", "2.0", "2.0"]
    ]  # fmt: skip


def test_pictures_show_each_seed(arms):
    figure = draw_accuracy_over_cost(arms, COSTS, {"Dy": WHOLE_IMAGES})
    over_macs, over_time = figure.axes
    for axes, dy, dy_whole, res in (
        (over_macs, 3.0, 1.8, 10.0),
        (over_time, 30.0, 20.0, 99.94),
    ):
        assert [c.get_offsets().tolist() for c in axes.collections] == [
            [[dy, 51.0], [dy, 50.0]], [[dy, 50.5]], [[dy_whole, 52.25]],
            [[res, 48.0]], [[res, 48.0]],
        ]  # fmt: skip
    (axes,) = draw_curves(arms).axes
    lines = sorted(tuple(line.get_ydata()) for line in axes.lines)
    assert lines == [(20.0, 48.0), (20.0, 50.0), (20.0, 51.0)]


def test_outcomes_of_two_precisions_do_not_compare(arms, tmp_path):
    (static,) = arms["Res"]
    replace(static, precision="bfloat16").write(tmp_path / "Res-seed0.json")
    with pytest.raises(ValueError, match=r"bfloat16 \(.*Res-seed0.json\)"):
        read_outcomes(tmp_path)


def test_differences_have_the_interval_of_welch():
    def reports(*scores: tuple[float, float]) -> list[dict]:
        names = ("sliding window", "whole image")
        return [
            {
                "modes": {
                    n: {"metrics": {"mIoU": x}} for n, x in zip(names, s, strict=True)
                }
            }
            for s in scores
        ]

    modes = {
        "Res": reports((50.0, 51.0), (52.0, 53.0)),
        "Dy": reports((54.0, 40.0), (58.0, 44.0)),
    }
    # In windows: 56 - 51. Variances of the means are 8 / 2 and 2 / 2, so the standard
    # error is sqrt(5), at (4 + 1)^2 / (4^2 + 1^2) = 1.4706 degrees of freedom, of which
    # 95 % of Student's t lie within 6.1881.
    half = 6.1881 * 5**0.5
    ((name, windows, whole, suited),) = cells(differences_table(modes, "Dy"))
    assert name == "Res"
    assert windows == f"+5.00 ({5 - half:+.2f} .. {5 + half:+.2f})"
    assert whole.startswith("-10.00 (")
    assert suited.startswith("+4.00 (")  # 56 in windows, 52 on whole images
    with pytest.raises(ValueError, match="Res has 1 seed"):
        differences_table({**modes, "Res": modes["Res"][:1]}, "Dy")


def test_modes_are_means_over_seeds():
    def report(**modes: tuple[float, float | None]) -> dict:
        return {
            "modes": {
                name: {"metrics": {"mIoU": score}, "coefficient_difference": moved}
                for name, (score, moved) in modes.items()
            }
        }

    arms = {
        "Res": [report(whole=(50.0, None)), report(whole=(53.0, None))],
        "Dy": [report(whole=(48.0, 0.0), kept=(47.0, 0.01)),
               report(whole=(49.0, 0.1), kept=(44.0, 0.02))],
        "Dy4": [report(whole=(47.0, 0.5))],  # fewer modes: its 0.5 is left out
    }  # fmt: skip
    assert cells(modes_table(arms)) == [
        ["whole", "51.50", "48.50", "47.00", "0.0500"],
        ["kept", "-", "45.50", "-", "0.0150"],
    ]
    arms["Dy"].append(report(whole=(48.0, 0.0)))
    with pytest.raises(ValueError, match="Dy was tested in whole, kept from one seed"):
        modes_table(arms)


def test_windows_are_rows_in_their_order():
    def reports(*scores: float) -> list[dict]:
        return [
            {
                "crop": [height, 64],
                "modes": {"sliding window": {"metrics": {"mIoU": x}}},
            }
            for height, x in zip((48, 32), scores, strict=True)
        ]

    arms = {"Res": reports(50.0, 45.0), "Dy": reports(51.0, 44.25)}
    assert cells(windows_table(arms)) == [
        ["48 x 64", "50.00", "51.00"],
        ["32 x 64", "45.00", "44.25"],
    ]


def test_an_entry_of_the_metafile_has_the_mean(arms):
    entry = model_entry(arms["Dy"])
    assert entry["Config"] == arms["Dy"][0].config
    assert entry["Results"][0]["Metrics"] == {"mIoU": 50.5}
    assert entry["Metadata"]["Seeds"] == 2
    assert entry["Metadata"]["Precision"] == "float32"


@pytest.fixture
def report(monkeypatch):
    """What tools/camvid/report.py defines."""
    monkeypatch.syspath_prepend(str(ROOT / "tools/camvid"))
    return runpy.run_path(str(ROOT / "tools/camvid/report.py"))


def test_documents_and_metafile_have_the_outcomes(report):
    """If not: python tools/camvid/report.py."""
    arms = report["ARMS"]
    assert list(report["read_costs"]()[0]) == list(arms)
    for (document, name), content in report["blocks"]().items():
        assert read_block(document, name) == content
    assert load(str(ROOT / "model-index.yml"))["Import"] == [
        "configs/dynet/metafile.yml"
    ]
    assert load(str(report["METAFILE"])) == {"Models": report["models"]()}
    assert all((ROOT / arm.config).is_file() for arm in arms.values())


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_outcomes_are_those_of_the_networks_that_were_analysed(report, precision):
    """If not: tools/camvid/analyze.py; the last validation is in windows, too."""
    results = report["Results"].read(precision)
    assert {*results.modes} >= {*report["MAIN_ARMS"]}
    for arm, modes in results.modes.items():
        windows = [m["modes"]["sliding window"]["metrics"]["mIoU"] for m in modes]
        assert windows == pytest.approx([o.val_mIoU for o in results.outcomes[arm]])
        assert {o.precision for o in results.outcomes[arm]} == {precision}


def test_results_say_on_what_and_by_which_command(report):
    # inference_modes.py did not, when those of bfloat16 were found.
    older = {
        f"bfloat16/modes/{report['ARMS'][arm].file_name(seed)}.json"
        for arm in report["MAIN_ARMS"]
        for seed in range(3)
    }
    folder = ROOT / report["RESULTS"]
    for path in folder.rglob("*.json"):
        found = report["read_json"](path)
        if "machine" not in found:
            assert path.relative_to(folder).as_posix() in older
            continue
        assert "threads" in found["machine"]
        _, _, command = found["command"].partition("python ")
        assert (ROOT / command.split()[0]).is_file()


def test_the_metafile_has_the_arm_with_most_seeds(report):
    results = report["read_results"]()
    counts = {
        model["Config"]: (model["Metadata"]["Precision"], model["Metadata"]["Seeds"])
        for model in report["models"]()
    }
    for arm in report["MAIN_ARMS"]:
        assert len(results["float32"].outcomes[arm]) < 3
        assert counts[report["ARMS"][arm].config] == ("bfloat16", 3)
    few = report["ARMS"]["Dy-ResNet18 (g_t=1)"].config
    assert counts[few] == ("float32", 1)


def test_findings_are_of_the_networks_whose_outcomes_stand_beside_them(report):
    folder = ROOT / report["RESULTS"] / "float32"
    outcomes = report["Results"].read("float32").outcomes
    coefficients, correlation = (
        report["read_json"](folder / f"{name}.json") for name in report["FINDINGS"]
    )
    for found in (coefficients, *correlation["networks"]):
        (run,) = (
            run
            for runs in outcomes.values()
            for run in runs
            if run.config == found["config"]
        )
        assert str(Path(found["checkpoint"]).parent) in run.command
    assert coefficients["machine"].split(", ")[2] == run.machine.split(", ")[2]


def test_costs_are_those_of_the_configs(report):
    """If not: python tools/camvid/measure_cost.py."""
    costs, _ = report["read_costs"]()
    for name in report["MAIN_ARMS"]:
        cfg = Config.fromfile(ROOT / report["ARMS"][name].config)
        windows = windows_shape(cfg, (360, 480))
        assert windows[0] == 4
        counted = count_complexity(build_model(cfg), windows)
        assert costs[name].gmacs == counted.macs / 1e9
        assert costs[name].params == counted.parameters / 1e6
