"""Tables of speed say what the benchmarks' files say, and documents have them."""

import json
import shutil
from pathlib import Path

import pytest
from figures.speed import BLOCKS, INFERENCE, inference_table, steps_table

from mmseg_dynet.markdown import read_block

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
FILES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize(
    ("document", "block"),
    [("README.md", "speed-table"), *(("docs/speed.md", block) for block in BLOCKS)],
)
def test_documents_are_up_to_date(document, block):
    """If not: python tools/analysis_tools/speed_tables.py."""
    assert read_block(ROOT / document, block) == BLOCKS[block](FOLDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_how_it_was_measured(path):
    content = json.loads(path.read_text())
    for record in content if isinstance(content, list) else [content]:
        assert "threads" in record["machine"]
        tool, *arguments = record["command"].removeprefix("python ").split(" ")
        assert (ROOT / tool).is_file()
        assert f"benchmarks/{path.name}" in arguments
        if "steps" not in record:
            assert record["ratio"] == record["static_ms"] / record["dynamic_ms"]
            assert record["mac_ratio_reached"] == record["ratio"] / record["mac_ratio"]


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(FOLDER, tmp_path / "benchmarks"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_row_has_both_sides_and_the_ratio_with_int8(folder):
    change(folder / "resnet18.json", static_ms=20.04, dynamic_ms=9.96, ratio=2.012,
           mac_ratio=3.051)  # fmt: skip
    change(folder / "resnet18-int8.json", ratio=2.5)
    (row,) = (r for r in inference_table(folder).splitlines() if "ResNet18" in r)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["ResNet18, 224 x 224", "20.0", "10.0", "2.01x", "2.50x", "3.05x"]


def test_steps_of_the_dynamic_network_alone_have_no_static_time(folder):
    steps = [dict(step="fused", static_ms=None, dynamic_ms=1.5, ratio=2.0)]
    change(folder / "steps-mobile.json", steps=steps)
    (row,) = (r for r in steps_table(folder).splitlines() if "| fused" in r)
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "fused", "", "1.5", "2.00x"
    ]  # fmt: skip


def test_machines_are_not_mixed(folder):
    change(folder / f"{INFERENCE['ResNet50, 224 x 224']}.json", machine="another")
    with pytest.raises(ValueError, match="figures of several machines"):
        inference_table(folder)
