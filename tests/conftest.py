"""Run the tools in this process, on networks a quarter as wide as the smallest."""

import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import CheckpointLoader, save_checkpoint
from mmengine.runner.checkpoint import load_from_local
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer
from torch import nn

from mmseg_dynet.apis import build_model, load_config

ROOT = Path(__file__).parents[1]
CONFIG = "r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
GREY = {
    "model.backbone.in_channels": 1,
    "model.data_preprocessor.mean": [120.0],
    "model.data_preprocessor.std": [60.0],
    "test_pipeline.0.color_type": "grayscale",
    "test_dataloader.dataset.pipeline.0.color_type": "grayscale",
}
BINARY = {
    "model.decode_head.num_classes": 2,
    "model.decode_head.out_channels": 1,
    "model.decode_head.threshold": 0.4,
    "model.decode_head.loss_decode.use_sigmoid": True,
    "model.decode_head.loss_decode.class_weight": None,
    "model.auxiliary_head": None,
    "test_dataloader.dataset.metainfo": dict(
        classes=("road", "sidewalk"), palette=[(128, 64, 128), (244, 35, 232)]
    ),
}


@pytest.fixture
def run_tool(monkeypatch, capsys, tmp_path, forgotten_runs) -> Callable[..., str]:
    """Run a tool as a script in an empty folder, and return what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(tool: str | Path, *arguments: object) -> str:
        path = str(ROOT / "tools" / tool)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        forget_runs()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the host's
            warnings.filterwarnings("error", module="mmseg_dynet|__main__")
            runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def forgotten_runs() -> Iterator[None]:
    """Forget the runs of a test when it ends."""
    yield
    forget_runs()


def forget_runs() -> None:
    """Remove what the host keeps globally of a run, for the next to be another."""
    CheckpointLoader.register_scheme("", load_from_local, force=True)
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for global_by_name in (MessageHub, MMLogger, SegLocalVisualizer, Visualizer):
        global_by_name._instance_dict.clear()


@pytest.fixture
def at_inference() -> Iterator[None]:
    """Seed random numbers, and compute without gradients."""
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def write_config(tiny_cityscapes, tmp_path) -> Callable[..., Path]:
    """Write a config of two iterations on a small network and data set.

    On request, it is of grey images, or of two classes by one logit.
    """

    def write(
        arm: str, grey: bool = False, binary: bool = False, **options: object
    ) -> Path:
        width = 16 if arm == "" else 8
        options = (
            {
                "model.backbone.base_channels": width,
                "model.decode_head.in_channels": 8 * width,
                "model.decode_head.channels": 8,
                "model.auxiliary_head.in_channels": 4 * width,
                "model.auxiliary_head.channels": 8,
                "train_dataloader.batch_size": 2,
                "train_cfg.max_iters": 2,
                "train_cfg.val_interval": 2,
                "default_hooks.checkpoint.interval": 1,
                "default_hooks.logger.interval": 1,
            }
            | (GREY if grey else {})
            | (BINARY if binary else {})
            | options
        )
        for split in ("train", "val", "test"):
            options |= {
                f"{split}_dataloader.dataset.data_root": str(tiny_cityscapes),
                f"{split}_dataloader.num_workers": 0,
                f"{split}_dataloader.persistent_workers": False,
            }
        cfg = load_config(str(ROOT / f"configs/dynet/{arm}{CONFIG}"), options)
        path = tmp_path / f"{arm}tiny.py"
        cfg.dump(path)
        return path

    return write


@pytest.fixture
def save_weights(tmp_path) -> Callable[..., Path]:
    """Save the random weights of a config's model in a checkpoint."""

    def save(config: Path, change: Callable[[nn.Module], None] | None = None) -> Path:
        torch.manual_seed(0)
        model = build_model(load_config(str(config)))
        nn.init.normal_(model.decode_head.conv_seg.weight)  # the host's is nearly zero
        if change is not None:
            change(model)
        path = tmp_path / f"{config.stem}.pth"
        save_checkpoint(dict(state_dict=model.state_dict()), str(path))
        return path

    return save
