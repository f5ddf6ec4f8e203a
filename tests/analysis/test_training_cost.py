"""The cost of a training is counted by hand, by PyTorch and by the document alike."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.analysis.training_cost import (
    Activations,
    StepTime,
    TrainingCost,
    kept_for_backward,
    optimizer_state_tensors,
    render_costs,
    render_step_times,
    small_shapes,
    training_macs,
    weigh_activations,
)
from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.markdown import read_block
from mmseg_dynet.model_zoo import segmentor_configs

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/training_cost.md"
TOOL = ROOT / "tools/analysis_tools/training_cost.py"
TIMES = ROOT / "benchmarks/training-cost.json"
DYNAMIC = ROOT / "configs/fcn/dy-r18-d8_fcn_4xb2-80k_cityscapes-512x1024.py"
POOLING = ROOT / "configs/pspnet/dy-r18-d8_pspnet_4xb2-80k_cityscapes-512x1024.py"
SMALL = [  # static, dynamic
    ROOT / "configs/fcn" / f"{arm}r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
    for arm in ("", "dy-")
]
NUM_CLASSES = 19


def build(path: Path) -> nn.Module:
    torch.manual_seed(0)
    return build_model(load_config(str(path)))


@pytest.fixture
def tool(monkeypatch) -> Callable[..., dict]:
    """Load the tool with its arguments; returns its names, ``main`` among them."""

    def load(*arguments: object) -> dict:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        return runpy.run_path(str(TOOL))["main"].__globals__

    return load


@pytest.mark.parametrize(
    "config",
    [
        dict(type="SGD"),
        dict(type="SGD", momentum=0.9),
        dict(type="Adam"),
        dict(type="AdamW"),
        dict(type="AdamW", amsgrad=True),
    ],
    ids=str,
)
def test_state_is_that_of_the_optimizer(config):
    weight = nn.Parameter(torch.rand(3, 5))
    options = {key: value for key, value in config.items() if key != "type"}
    optimizer = getattr(torch.optim, config["type"])([weight], lr=0.1, **options)
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state[weight].values()
    tensors = [s for s in state if s is not None and s.shape == weight.shape]
    assert optimizer_state_tensors(config) == len(tensors)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="'Lion' is not known: it must be SGD, Adam"):
        optimizer_state_tensors(dict(type="Lion"))


def test_kept_bytes_by_hand():
    """The input once for two convolutions, each ReLU's result, and nothing else."""
    left, right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    x = torch.rand(2, 3, 5, 7)

    def step() -> None:
        y = left(x).relu() + right(x).relu()
        y.topk(1)  # keeps indices, but not for the loss
        y.sum().backward()

    weights = [left.weight, right.weight]
    assert kept_for_backward(step, weights) == 4 * 2 * 5 * 7 * (3 + 4 + 4)
    assert kept_for_backward(step, []) == 4 * (2 * 5 * 7 * (3 + 4 + 4) + 2 * 4 * 3)


@pytest.mark.parametrize("path", [DYNAMIC, POOLING], ids=lambda path: path.stem)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=str)
def test_three_small_steps_tell_what_another_keeps(path, autocast):
    model, another = build(path), (4, 96, 256)
    shapes = small_shapes(model)
    kept = weigh_activations(model, NUM_CLASSES, [*shapes, another], autocast)
    batch, *size = another
    predicted = Activations.fit({s: kept[s] for s in shapes}).of_step(batch, size)
    assert predicted == pytest.approx(kept[another], rel=1e-6)


def test_a_step_under_autocast_keeps_the_weights_in_two_bytes():
    model = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.Flatten())
    kept = weigh_activations(model, 8, [(2, 1, 1)], torch.bfloat16)
    # Image and weight in two bytes; of the loss, log-probabilities in four, labels in
    # eight, and the number of images.
    assert kept == {(2, 1, 1): 2 * 2 * 3 + 2 * 8 * 3 + 4 * 2 * 8 + 8 * 2 + 4}


def test_shapes_that_do_not_tell_the_parts_apart_are_an_error():
    with pytest.raises(ValueError, match="vary the batch at one size, and the size"):
        Activations.fit({(2, 64, 64): 1, (2, 64, 128): 2, (2, 128, 128): 3})


def test_parts_add_up_and_sides_are_rounded_up():
    parts = Activations(step=1000, image=100, pixel=2)
    assert parts.of_step(3, (9, 16)) == 1000 + 3 * (100 + 2 * 16 * 16)


def test_macs_are_those_of_the_loss():
    model, size = build(DYNAMIC), (64, 128)
    labels = torch.zeros(1, *size, dtype=torch.long)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=labels)) for _ in range(2)]
    model.train()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.rand(2, 3, *size), samples, mode="loss")
    assert counter.get_total_flops() == 2 * 2 * training_macs(model, size)


def cost(**changes: object) -> TrainingCost:
    float32, bfloat16 = Activations(6e6, 2e6, 1e3), Activations(3e6, 1e6, 5e2)
    values = dict(
        parameters=10**6, macs=10**10, float32=float32, bfloat16=bfloat16,
        size=(80, 160), batch=2, gpus=8, images=640_000, state_tensors=1,
    )  # fmt: skip
    return TrainingCost(**values | changes)


def test_costs_by_hand():
    eight = cost()
    assert eight.all_reduce_bytes == 4e6
    # Weights, gradients, momentum, buckets; then what is kept.
    assert eight.memory_bytes(eight.float32) == 16e6 + 6e6 + 2 * (2e6 + 12.8e6)
    assert cost(gpus=1, state_tensors=2).parameter_bytes == 16e6
    assert eight.iterations == 40_000
    assert eight.step_flops == 16 * 6e10
    assert eight.total_flops == cost(gpus=4).total_flops == 640_000 * 6e10
    row = render_costs({"a": eight}, markdown=True).splitlines()[-1]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "a", "1.00", "10.00", "15", "7", "0.05", "0.03", "4.0", "8", "0.96", "40000",
        "38",
    ]  # fmt: skip


def record(shape: list[int], static: float, dynamic: float) -> dict:
    batch, _, height, width = shape
    macs = batch * height * width * 10**5
    return dict(
        shape=shape, static_ms=static, dynamic_ms=dynamic, static_macs=macs,
        dynamic_macs=macs // 4, ratio=static / dynamic, mac_ratio=4.0, machine="here",
    )  # fmt: skip


def test_a_line_of_times():
    """Static: 1 s and 10 s a million pixels, exactly. Dynamic: 10 % off at one step."""
    records = [
        record([2, 3, 100, 500], 2000, 1000),
        record([4, 3, 100, 500], 3000, 1000),
        record([2, 3, 200, 500], 3000, 1250),
    ]
    static, dynamic = (StepTime.fit(records, side) for side in ("static", "dynamic"))
    assert (static.fixed, static.pixel) == pytest.approx((1, 1e-5))
    assert static.deviation == pytest.approx(0, abs=1e-9)
    assert static.of(10**6) == pytest.approx(11)
    assert 0.05 < dynamic.deviation < 0.15
    lines = render_step_times(records, 2, (500, 1000)).splitlines()
    (row,) = (line for line in lines if line.startswith("| static"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "static", "1.00", "10.00", "0.0%", "11.0", f"{6e11 / 11 / 1e9:.0f}"
    ]  # fmt: skip


def rows(table: str) -> dict[str, list[str]]:
    """Cells by the name of the config, of a table in either style."""
    lines = [line for line in table.splitlines() if "cityscapes" in line]
    cells = [[c.strip(" `") for c in line.strip("|").split("|")] for line in lines]
    return {name: rest for name, *rest in cells}


def test_the_document_lists_every_config():
    expected = {p.stem for p in segmentor_configs(ROOT) if "80k_cityscapes" in p.stem}
    assert len(expected) > 30
    assert set(rows(read_block(DOCUMENT, "training-cost"))) == expected


def test_the_document_says_what_the_tool_prints(tool, tmp_path, capsys):
    """If not: python tools/analysis_tools/training_cost.py --update DOCUMENT."""
    page = tmp_path / "page.md"
    page.write_text("<!-- training-cost -->\n<!-- /training-cost -->\n")
    tool(DYNAMIC, "--update", page)["main"]()
    printed = rows(capsys.readouterr().out)
    assert printed == rows(read_block(page, "training-cost"))
    published = rows(read_block(DOCUMENT, "training-cost"))
    assert printed == {DYNAMIC.stem: published[DYNAMIC.stem]}


def test_the_document_has_the_measured_times():
    """If not: run the command that the document shows."""
    records = json.loads(TIMES.read_text("utf-8"))
    page = read_block(DOCUMENT, "training-time")
    assert page == render_step_times(records, 2, (512, 1024))


def test_both_sides_are_timed_in_every_step(tool, tmp_path, monkeypatch):
    out, page = tmp_path / "times.json", tmp_path / "page.md"
    page.write_text("<!-- training-time -->\n<!-- /training-time -->\n")
    names = tool("--measure", SMALL[1], "--vs", SMALL[0], "--repeats", 2,
                 "--json", out, "--update", page)  # fmt: skip
    monkeypatch.setitem(names, "TIMED", ((2, 32, 64), (4, 32, 64)))
    names["main"]()
    records = json.loads(out.read_text("utf-8"))
    assert [r["shape"] for r in records] == [[2, 3, 32, 64], [4, 3, 32, 64]]
    assert [r["static_macs"] for r in records] == [
        batch * training_macs(build(SMALL[0]), (32, 64)) for batch in (2, 4)
    ]
    for r in records:
        assert [r["static"], r["dynamic"]] == [str(path) for path in SMALL]
        assert r["mac_ratio"] == r["static_macs"] / r["dynamic_macs"]
        assert r["mac_ratio_reached"] == r["ratio"] / r["mac_ratio"]
        first, third = r["static_quartiles_ms"]
        assert first <= r["static_ms"] <= third
        assert r["ratio"] == r["static_ms"] / r["dynamic_ms"]
    table = render_step_times(records, 2, (512, 1024))
    assert read_block(page, "training-time") == table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpus", 0), "--gpus: must be at least 1, got 0"),
        (("--measure", DYNAMIC), "beside its static twin, --vs CONFIG"),
        ((DYNAMIC, "--vs", DYNAMIC), "--vs belongs to --measure"),
    ],
)
def test_the_tool_names_what_does_not_go_together(tool, arguments, message, capsys):
    names = tool(*arguments)
    with pytest.raises(SystemExit):
        names["parse_args"]()
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_schedule_without_its_batch_is_an_error(tool):
    with pytest.raises(ValueError, match=r"a\.py must say for how many GPUs"):
        tool()["images_of_a_step"]("a.py")
