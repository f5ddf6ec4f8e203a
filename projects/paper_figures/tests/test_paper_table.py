"""The tool prints, writes and updates; a few rows are enough for that."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from figures import paper

TOOL = Path(__file__).parents[2] / "tools/analysis_tools/paper_table.py"


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Run the tool in this process, on the rows of ResNet18."""
    figures = [f for f in paper.FIGURES if f.network in ("ResNet18", "Dy-ResNet18")]
    reductions = [r for r in paper.REDUCTIONS if r.network == "Dy-ResNet18"]
    monkeypatch.setattr(paper, "FIGURES", figures)
    monkeypatch.setattr(paper, "REDUCTIONS", reductions)

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name="__main__")
        return capsys.readouterr().out

    return run


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_prints_each_figure_beside_ours(run_tool):
    rows = [cells_of(line) for line in run_tool().splitlines() if "|" in line]
    whole = "conv + fusion + prediction + head"
    # 1814.07e6, 577.48e6, 594.44e6 and, at one kernel, 580.33e6 MACs by 2^20.
    assert rows[:6] == [
        ["network", "g_t", "table", "counted", "unit", "paper", "ours", "dev., %"],
        ["ResNet18", "", "v1", "conv + head", "2^20", "1730", "1730.04", "+0.00"],
        ["Dy-ResNet18", "6", "earlier", "conv + head", "2^20", "550", "550.73",
         "+0.13"],
        ["Dy-ResNet18", "6", "v1", whole, "2^20", "567", "566.90", "-0.02"],
        ["Dy-ResNet18", "1", "ablation", "conv + head", "2^20", "550", "550.73",
         "+0.13"],
        ["Dy-ResNet18", "1", "ablation", whole, "2^20", "-", "553.45", "-"],
    ]  # fmt: skip
    assert rows[6:] == [
        ["network", "against", "paper, %", "ours, %"],
        ["Dy-ResNet18", "ResNet18", "67.2", "67.2"],
    ]


def test_markdown_is_what_documents_are_updated_with(run_tool, tmp_path):
    documents = [tmp_path / "a.md", tmp_path / "b.md"]
    for path in documents:
        path.write_text("above\n<!-- paper-table -->\nold\n<!-- /paper-table -->\n")
    printed = run_tool("--markdown", "--update", *documents)
    assert "| ResNet18    |     | v1       |" in printed
    for path in documents:
        assert path.read_text() == (
            f"above\n<!-- paper-table -->\n\n{printed.strip()}\n\n"
            "<!-- /paper-table -->\n"
        )


def test_a_document_without_the_markers_is_named(run_tool, tmp_path):
    path = tmp_path / "a.md"
    path.write_text("no markers")
    with pytest.raises(ValueError, match=r"a\.md must have one line <!-- paper-table"):
        run_tool("--update", path)


def test_json_has_the_counts(run_tool, tmp_path):
    run_tool("--json", tmp_path / "figures.json")
    report = json.loads((tmp_path / "figures.json").read_text())
    figure = report["figures"][2]
    assert (figure["network"], figure["num_kernels"]) == ("Dy-ResNet18", 6)
    assert (figure["paper"], figure["unit"]) == (567, "2^20")
    macs = figure["macs"]
    assert macs["macs"] == 594_438_656
    assert figure["ours"] == sum(macs[part] for part in figure["counted"]) / 2**20
    assert figure["deviation_percent"] == pytest.approx(-0.02, abs=0.005)
    assert report["figures"][4]["deviation_percent"] is None
    assert report["reductions_percent"][0]["paper"] == 67.2
