"""The table of docs/choose.md, measured small."""

from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def networks(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import networks

    return networks


def test_published_networks_have_an_accuracy_and_ours_have_none(networks):
    for name, config in networks.NETWORKS.items():
        miou = networks.published_miou(name, config)
        assert (miou is not None) == ("/" in config), name
        assert miou is None or 70 < miou < 81


def test_table(networks, tmp_path, monkeypatch):
    names = ("Fast-SCNN", "Dy-BiSeNetV2", "SegNeXt-T")
    chosen = {name: networks.NETWORKS[name] for name in names}
    monkeypatch.setattr(networks, "NETWORKS", chosen)
    monkeypatch.setattr(networks, "SIZES", ((64, 128), (128, 256)))
    monkeypatch.setattr(networks, "RECORD", tmp_path / "networks.json")
    networks.write_json(
        networks.RECORD, {"networks": networks.measure(1), "machine": "mine"}
    )
    rows = [line.split(" | ") for line in networks.table().splitlines()[2:5]]
    assert [row[-1] for row in rows] == ["70.96 |", "not trained here |", "79.80 |"]
    # MACs that grow with the image, and some that do not: a pooled branch, a fusion.
    assert all(3 < float(row[2]) / float(row[1]) <= 4.5 for row in rows)
