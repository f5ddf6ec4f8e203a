"""Fixtures that the tests of the package share."""

import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local

TOOLS = Path(__file__).parents[1] / "tools"
NUMBERS = count()


@pytest.fixture
def run_tool(
    tmp_path: Path, tiny_cityscapes: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Run a tool that starts a Runner in this process, on tiny data, in a new folder.

    Its log goes to standard output.
    """
    monkeypatch.chdir(tmp_path)

    def run(
        tool: str,
        *arguments: object,
        options: tuple[object, ...] = (),
        splits: tuple[str, ...] = ("train", "val", "test"),
    ) -> None:
        name = f"run{next(NUMBERS)}"
        options = [
            "--cfg-options",
            *(f"{split}_dataloader.num_workers=0" for split in splits),
            *(
                f"{split}_dataloader.dataset.data_root={tiny_cityscapes}"
                for split in splits
            ),
            # Runners of one name would share their message hub.
            f"experiment_name={name}",
            f"visualizer.name={name}",
            *options,
        ]
        monkeypatch.setattr(sys, "argv", [tool, *map(str, [*arguments, *options])])
        with warnings.catch_warnings(category=UserWarning, action="ignore"):
            runpy.run_path(str(TOOLS / tool), run_name="__main__")

    yield run
    CheckpointLoader.register_scheme("", load_from_local, force=True)
    DefaultScope._instance_dict.clear()
