"""The list of all configs of segmentors: their cost, and their mIoU where it was found.

MACs and parameters are counted. The mIoU is what a ``metafile.yml`` says, in the format
of OpenMMLab's model index; a config that none of them names was not trained.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.fileio import load
from prettytable import PrettyTable
from rich.progress import track

from .analysis.complexity import count_complexity
from .apis import build_model, input_size
from .markdown import markdown_table

NOT_TRAINED = "not trained here"
# Data sets by what the names of configs call them.
DATASETS = {
    "cityscapes": "Cityscapes",
    "camvid": "CamVid",
    "synthetic-streets": "Synthetic streets",
}
ARMS = ("dy-", "fix-", "")  # what names begin with, the static network's with none


def render(root: Path) -> str:
    """Write a table for each data set.

    Args:
        root: The folder of ``configs`` and ``model-index.yml``, beside ``docs``.

    Returns:
        Markdown for a page in ``docs``.

    Raises:
        ValueError: A config is named after no data set that is known here.
    """
    rows = {title: [] for title in DATASETS.values()}
    accuracy = read_accuracy(root)
    for path in track(segmentor_configs(root), "configs"):
        config = path.relative_to(root).as_posix()
        rows[_dataset(path)].append([
            f"[`{path.stem}`](../{config})", *_cost(path),
            accuracy.get(config, NOT_TRAINED),
        ])  # fmt: skip
    return "\n\n".join(f"## {title}\n\n{_table(r)}" for title, r in rows.items())


def segmentor_configs(root: Path) -> list[Path]:
    """Find the configs that say what to train, but for those of classifiers.

    Args:
        root: The folder of ``configs``.

    Returns:
        By family and network: the static one, its control, the dynamic one.
    """
    found = [
        path
        for path in root.glob("configs/*/*.py")
        if path.parent.name not in ("_base_", "imagenet")
    ]
    return sorted(found, key=_beside_its_twins)


def read_accuracy(root: Path) -> dict[str, str]:
    """Read what the metafiles say.

    Args:
        root: The folder of ``model-index.yml``, whose ``Import`` lists the metafiles.

    Returns:
        By config, as its path from ``root``: mIoU in percent, and of how many seeds it
        is the mean and what they computed in, where the metafile says so.
    """
    index = load(str(root / "model-index.yml"))
    models = [m for file in index["Import"] for m in load(str(root / file))["Models"]]
    return {
        model["Config"]: f"{result['Metrics']['mIoU']:.2f}{_circumstances(model)}"
        for model in models
        for result in model.get("Results", [])
        if "mIoU" in result["Metrics"]
    }


def _circumstances(model: Mapping) -> str:
    metadata = model.get("Metadata", {})
    if "Seeds" not in metadata:
        return ""
    seeds = "1 seed" if metadata["Seeds"] == 1 else f"{metadata['Seeds']} seeds"
    return f" ({seeds}, {metadata['Precision']})"


def _beside_its_twins(path: Path) -> tuple[str, list[str], int]:
    rank = next(i for i, arm in enumerate(ARMS) if path.stem.startswith(arm))
    name = path.stem.removeprefix(ARMS[rank])
    return path.parent.name, name.split("_"), -rank


def _dataset(path: Path) -> str:
    """The title of the data set that the last part of a config's name begins with."""
    called = path.stem.rpartition("_")[2]
    for name, title in DATASETS.items():
        if called.startswith(f"{name}-"):
            return title
    raise ValueError(
        f"the last part of {path.name} names none of {', '.join(DATASETS)}: rename the "
        "config, or add its data set to mmseg_dynet/model_zoo.py"
    )


def _cost(path: Path) -> tuple[str, str]:
    """GMACs at the size that the config trains on, and millions of parameters."""
    cfg = Config.fromfile(path)
    with torch.device("meta"):  # weights are counted, not drawn
        model = build_model(cfg)
    count = count_complexity(model, (1, 3, *input_size(cfg)))
    return f"{count.macs / 1e9:.2f}", f"{count.parameters / 1e6:.2f}"


def _table(rows: list[list[str]]) -> PrettyTable:
    table = markdown_table("config", "GMACs", "parameters, 10^6", "mIoU, %")
    table.add_rows(rows)
    return table
