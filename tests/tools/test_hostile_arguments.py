"""Numbers that a tool cannot work with end it, by name, before it reads a file."""

import runpy
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"
NO_INTEGERS = ("", "nan", "inf", "1e3", "0x10", "two")

# Options that take an integer: the command in front, and the least that it may be.
INTEGERS = {
    "--repeats": [
        ("analysis_tools/benchmark.py CONFIG", 2),
        ("analysis_tools/benchmark_implementations.py", 1),
        ("analysis_tools/benchmark_steps.py NETWORK --vs TWIN", 1),
        ("analysis_tools/compare.py CONFIG", 1),
        ("analysis_tools/training_cost.py CONFIG --measure --vs TWIN", 2),
        ("camvid/measure_cost.py", 1),
    ],
    "--batch": [("analysis_tools/benchmark.py CONFIG", 1)],
    "--warmup": [("analysis_tools/benchmark.py CONFIG", 0)],
    "--threads": [
        ("analysis_tools/benchmark.py CONFIG", 1),
        ("analysis_tools/training_cost.py CONFIG --measure --vs TWIN", 1),
        ("camvid/train_arms.py", 1),
    ],
    "--keep-kernels": [("segment.py CONFIG CHECKPOINT INPUT OUT", 1)],
    "--num-images": [
        ("analysis_tools/compare.py CONFIG", 1),
        ("analysis_tools/coefficients.py CONFIG CHECKPOINT", 2),
        ("analysis_tools/correlation.py CONFIG CHECKPOINT", 1),
    ],
    "--gpus": [("analysis_tools/training_cost.py CONFIG", 1)],
    "--jobs": [("camvid/train_arms.py", 1)],
}
# Commands with other options, what they refuse, and what the error says.
OTHERS = {
    "analysis_tools/class_weights.py CONFIG --offset={}": (
        ("1", "0", "-1", "0.9999999999999999", "nan", "-inf", "-1e300"),
        "--offset must be above 1, got",
    ),
    "deployment/segment_image.py MODEL IMAGE OUT.png --opacity={}": (
        ("-0.001", "1.001", "nan", "inf", "-inf", "1e300"),
        "give a number from 0 to 1",
    ),
    "analysis_tools/benchmark.py CONFIG --shape {}": (
        ("64", "64 64 64", "64 " * 1001),
        "--shape takes pairs H W, got",
    ),
    "analysis_tools/get_flops.py CONFIG --shape {}": (
        ("64", "64 64.0", "nan nan", "inf inf", "0 64", "64 -1"),
        "argument --shape",
    ),
    "analysis_tools/inference_modes.py CONFIG CHECKPOINT --crop {}": (
        ("0 0", "64 -64"),
        "argument --crop: must be at least 1, got",
    ),
    "analysis_tools/inference_modes.py CONFIG CHECKPOINT --reuse {}": (
        ("1", "2 0"),
        "argument --reuse: must be at least 2, got",
    ),
    "deployment/export.py CONFIG --out model.onnx --shape {}": (
        ("0 64", "64 -1"),
        "argument --shape: must be at least 1, got",
    ),
}


@cache
def names_of(tool: str) -> dict:
    """What a tool defines."""
    return runpy.run_path(str(TOOLS / tool), run_name="tool")


@pytest.fixture
def parse(monkeypatch) -> Callable[[str], Namespace]:
    """Let a tool parse its arguments."""

    def parse_command(command: str) -> Namespace:
        tool, *arguments = command.split()
        monkeypatch.syspath_prepend((TOOLS / tool).parent)
        monkeypatch.setattr(sys, "argv", [tool, *arguments])
        return names_of(tool)["parse_args"]()

    return parse_command


@pytest.fixture
def refusal(parse, capsys) -> Callable[[str], str]:
    """Let a tool refuse its arguments, and return what it says."""

    def refuse(command: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            parse(command)
        assert exit_.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    return refuse


@pytest.mark.parametrize(
    ("option", "command", "least"),
    [(option, *case) for option, cases in INTEGERS.items() for case in cases],
)
def test_an_integer_out_of_its_range_is_refused(option, command, least, parse, refusal):
    for value in (least - 1, -1, -(2**63)):
        error = refusal(f"{command} {option}={value}")
        assert f"argument {option}: must be at least {least}, got {value}" in error
    for value in NO_INTEGERS:
        error = refusal(f"{command} {option}={value}")
        assert f"argument {option}: invalid integer value: {value!r}" in error
    for value in (least, 2**63):
        args = parse(f"{command} {option}={value}")
        assert vars(args)[option[2:].replace("-", "_")] == value


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            command, marks=[pytest.mark.recent_torch] * ("export.py" in command)
        )
        for command in OTHERS
    ],
)
def test_other_numbers_out_of_their_range_are_refused(command, refusal):
    values, message = OTHERS[command]
    for value in values:
        assert message in refusal(command.format(value)), value


@pytest.mark.parametrize("stage", [4, -5, 2**63, -(2**63)])
def test_a_stage_that_the_backbone_does_not_return_is_refused(stage):
    pick = names_of("analysis_tools/correlation.py")["pick_output"]
    outputs = [torch.full((1,), float(i)) for i in range(4)]
    assert [pick(outputs, i).item() for i in (-4, -1, 0, 3)] == [0, 3, 0, 3]
    with pytest.raises(ValueError, match=f"no stage {stage} .* from -4 to 3"):
        pick(outputs, stage)


@pytest.mark.parametrize("opacity", ["-0.001", "1.001", "nan", "inf", "-1e300"])
def test_an_opacity_out_of_its_range_is_refused(opacity, parse, tmp_path):
    image = tmp_path / "image.png"
    image.touch()
    args = parse(f"segment.py CONFIG CHECKPOINT {image} OUT.png --opacity={opacity}")
    with pytest.raises(ValueError, match=r"--opacity \S+: give a number from 0 to 1"):
        names_of("segment.py")["check"](args)
