"""Draw what the two networks of demo.py see in two streets.

Run demo.py first::

    python projects/synthetic_streets/demo.py
    python projects/synthetic_streets/picture.py --out docs/images/demo.png
"""

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import torch
from demo import CONFIGS
from matplotlib.figure import Figure
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS

from mmseg_dynet.apis import build_model, load_config

STREETS = (1, 6)
TITLES = {"static": "ResNet-18", "dynamic": "Dy-ResNet-18"}


@torch.inference_mode()
def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="PNG")
    args = parser.parse_args()
    report = json.loads(Path("work_dirs/demo/seed0.json").read_text("utf-8"))
    columns = {}
    for (name, config), found in zip(CONFIGS.items(), report.values(), strict=True):
        cfg = load_config(config)
        model = build_model(cfg, f"work_dirs/demo/{name}-seed0/iter_200.pth")
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        samples = [dataset[index] for index in STREETS]
        results = [model.test_step(pseudo_collate([sample]))[0] for sample in samples]
        title = f"{TITLES[name]}, {found['macs'] / 1e9:.2f} GMACs"
        columns[title] = [result.pred_sem_seg.data[0] for result in results]
    truths = [sample["data_samples"].gt_sem_seg.data[0] for sample in samples]
    columns["ground truth"] = truths

    palette = np.array([*dataset.metainfo["palette"], (0, 0, 0)], dtype=np.uint8)
    figure = Figure(figsize=(10, 3.1), layout="constrained")
    grid = figure.subplots(len(STREETS), 1 + len(columns))
    grid[0, 0].set_title("image", fontsize=9)
    for cell, sample in zip(grid[:, 0], samples, strict=True):
        cell.imshow(sample["inputs"].flip(0).permute(1, 2, 0))  # BGR to RGB
    for cells, (title, maps) in zip(grid.T[1:], columns.items(), strict=True):
        cells[0].set_title(title, fontsize=9)
        for cell, labels, truth in zip(cells, maps, truths, strict=True):
            colours = palette[np.where(truth == 255, 19, labels)]  # void is black
            cell.imshow(colours, interpolation="nearest")
    for cell in grid.flat:
        cell.axis("off")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
