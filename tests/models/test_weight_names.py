"""Weights keep their names, shapes and order, so that checkpoints stay loadable.

``weights/`` lists those of every backbone, a line per layer. To accept a change:

    ACCEPT=1 python -m pytest tests/models/test_weight_names.py
"""

import os
from itertools import groupby
from pathlib import Path

import torch

FOLDER = Path(__file__).with_name("weights")


def test_weights_keep_their_names_and_shapes(case):
    with torch.device("meta"):
        weights = case.build_all_stages().state_dict()
    lines = []
    for layer, names in groupby(weights, lambda name: name.rpartition(".")[0]):
        shapes = (f"{n.rpartition('.')[2]} {list(weights[n].shape)}" for n in names)
        lines.append(f"{layer}: {', '.join(shapes)}\n")
    path = FOLDER / f"{case.name}.txt"
    if "ACCEPT" in os.environ:
        path.write_text("".join(lines))
    assert "".join(lines).splitlines() == path.read_text().splitlines()
