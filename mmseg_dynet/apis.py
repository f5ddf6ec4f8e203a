"""Configs, models and samples outside of a Runner."""

import sys
from math import ceil
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import load_state_dict
from mmseg.datasets import BaseSegDataset
from torch import nn
from torch.utils.data import Dataset, Subset

from .engine.checkpoint import read_checkpoint, weights_of
from .engine.setup_check import inner_datasets
from .engine.weights_check import check_weights

# Options of a DataLoader that torch refuses where there are no workers.
OF_WORKERS = (
    "persistent_workers", "prefetch_factor", "multiprocessing_context", "timeout",
)  # fmt: skip


def load_config(path: str | Path, cfg_options: dict | None = None) -> Config:
    """Read a config file, which is Python and is executed, and override its values.

    The model gets the config's ``data_preprocessor``, as in a Runner. Options that need
    workers are removed from data loaders where ``num_workers`` is 0.
    """
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(cfg_options or {})
    if cfg.get("model") and cfg.get("data_preprocessor"):
        cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
    for name, loader in cfg.items():
        if not name.endswith("_dataloader") or not isinstance(loader, dict):
            continue
        if not loader.get("num_workers"):
            for option in OF_WORKERS:
                if value := loader.pop(option, None):
                    message = f"{name}.num_workers is 0: {option}={value} has no effect"
                    print(message, file=sys.stderr)
    return cfg


def build_model(cfg: Config, checkpoint: str | Path | None = None) -> nn.Module:
    """Build a config's model on the CPU, in eval mode.

    SyncBN becomes BN, which needs no process group. Without a checkpoint, weights are
    random: ``init_cfg`` loads nothing.

    Args:
        cfg: A config with ``model`` and ``default_scope``.
        checkpoint: A checkpoint with all weights of this model, except those of its
            auxiliary head. Untrusted: see :mod:`mmseg_dynet.engine.checkpoint`.

    Raises:
        ValueError: The weights are not those of this model.
    """
    init_default_scope(cfg.get("default_scope") or "mmseg")
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    if checkpoint is not None:
        weights = weights_of(read_checkpoint(checkpoint))
        check_weights(model, weights, checkpoint)
        load_state_dict(model, weights)
    return model.eval()


def classes_and_palette(cfg: Config) -> tuple[list[str], list]:
    """The classes of a config's test data and their colours, without its files.

    They are read from METAINFO of the data set's Python class, where it has one: some
    data sets look for their files as soon as they are built.
    """
    _, data = next(inner_datasets(cfg.test_dataloader.dataset))
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope") or "mmseg") as own:
        kind = own.get(data["type"]) if isinstance(data["type"], str) else data["type"]
        # BaseSegDataset picks the colours of a subset of classes, too.
        declared = type(kind.__name__, (BaseSegDataset,), dict(METAINFO=kind.METAINFO))
        metainfo = declared(metainfo=data.get("metainfo"), lazy_init=True).metainfo
        if "classes" not in metainfo:  # another constructor may know them
            metainfo = own.build(dict(data, lazy_init=True)).metainfo
    return list(metainfo["classes"]), list(metainfo["palette"])


def evenly_spaced(dataset: Dataset, num_samples: int | None = None) -> Subset:
    """Pick samples at equal distances, from the first to the last.

    All are picked if ``num_samples`` is None or more than there are.
    """
    num_samples = min(num_samples or len(dataset), len(dataset))
    picks = np.linspace(0, len(dataset) - 1, num_samples).round().astype(int)
    return Subset(dataset, picks.tolist())


def input_size(cfg: Config) -> tuple[int, int]:
    """The (H, W) that a config trains on: the preprocessor's size, or ``crop_size``.

    Raises:
        ValueError: The config has neither.
    """
    preprocessor = {**cfg.model, **_network(cfg)}.get("data_preprocessor") or {}
    size = preprocessor.get("size") or cfg.get("crop_size")
    if size is None:
        raise ValueError(
            "the config has neither model.data_preprocessor.size nor crop_size to take "
            'the input size from: give --shape H W or --cfg-options "crop_size=(H,W)"'
        )
    return tuple(size)


def input_channels(cfg: Config) -> int:
    """The ``in_channels`` of a config's backbone, 3 by default."""
    backbone = _network(cfg).get("backbone") or {}
    while "in_channels" not in backbone:
        inner = backbone.get("backbone_cfg") or backbone.get("module")
        if inner is None:
            return 3
        backbone = inner
    return backbone["in_channels"]


def windows_shape(
    cfg: Config, image_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The shape (N, C, H, W) of the inputs into which a test splits an image (H, W).

    N is the number of windows, which overlap, if ``model.test_cfg`` slides
    (``EncoderDecoder.slide_inference`` of the host); otherwise it is 1.
    """
    test_cfg = _network(cfg).get("test_cfg") or {}
    if test_cfg.get("mode") != "slide":
        return (1, input_channels(cfg), *image_size)
    count, window = 1, []
    for size, crop, stride in zip(
        image_size, test_cfg["crop_size"], test_cfg["stride"], strict=True
    ):
        count *= max(ceil((size - crop) / stride), 0) + 1
        window.append(min(size, crop))
    return (count, input_channels(cfg), *window)


def _network(cfg: Config) -> dict:
    """The model of a config, or the one inside of ``type="Dynamized"``."""
    return cfg.model.get("module", cfg.model)
