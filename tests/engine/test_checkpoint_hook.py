"""Checkpoints are complete or absent, and old ones are removed last."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmseg_dynet.engine import SafeCheckpointHook
from mmseg_dynet.engine.checkpoint import find_newest, load_from_file
from mmseg_dynet.engine.checkpoint_hook import BACKEND, AtomicBackend


class Toy(nn.Module):
    """A model that counts its own training steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1000))

    def train_step(self, data: object, optim_wrapper: OptimWrapper) -> dict:
        loss = -self.weight.sum()
        optim_wrapper.update_params(loss)
        return {"loss": loss}

    def val_step(self, data: object) -> list:
        return [None]


class Score(BaseMetric):
    """A metric that is better in each validation."""

    calls = 0

    def process(self, *_: object) -> None:
        self.results.append(None)

    def compute_metrics(self, _: list) -> dict:
        Score.calls += 1
        return {"mIoU": float(Score.calls)}


@pytest.fixture
def train(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Runner]:
    """Train a toy for some iterations: SGD with step 1, a checkpoint in each."""

    def run(
        iterations: int,
        hook: type = SafeCheckpointHook,
        *,
        resume: str | None = None,
        by_epoch: bool = False,
        **options: object,
    ) -> Runner:
        limit = dict(max_epochs=iterations) if by_epoch else dict(max_iters=iterations)
        checkpoint = dict(type=hook, by_epoch=by_epoch, interval=1) | options
        runner = Runner(
            Toy(),
            work_dir=str(tmp_path),
            train_dataloader=dict(
                dataset=list(range(8)), sampler=dict(type="DefaultSampler")
            ),
            train_cfg=dict(by_epoch=by_epoch, val_interval=1, **limit),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
            val_dataloader=dict(dataset=[0], sampler=dict(type="DefaultSampler")),
            val_cfg=dict(),
            val_evaluator=Evaluator(Score()),
            default_hooks=dict(checkpoint=checkpoint),
            load_from=resume,
            resume=resume is not None,
            experiment_name=f"{request.node.name}{len(MMLogger._instance_dict)}",
        )
        runner.train()
        return runner

    return run


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The checkpoints that are there while one is being written."""
    there, put = [], AtomicBackend.put

    def watched(self: AtomicBackend, obj: bytes, filepath: str) -> None:
        there.append(checkpoints(tmp_path))
        put(self, obj, filepath)

    monkeypatch.setattr(AtomicBackend, "put", watched)
    return there


def test_an_old_checkpoint_is_removed_when_the_new_one_is_there(train, tmp_path, seen):
    train(3, max_keep_ckpts=1)
    assert seen == [[], ["iter_1.pth"], ["iter_2.pth"]]
    assert checkpoints(tmp_path) == ["iter_3.pth"]
    assert find_newest(tmp_path) == str(tmp_path / "iter_3.pth")
    weights = load_from_file(tmp_path / "iter_3.pth")["state_dict"]["weight"]
    assert torch.equal(weights, torch.full((1000,), 3.0))


def test_the_best_checkpoint_is_replaced_before_it_is_removed(train, tmp_path, seen):
    train(2, save_best="mIoU", interval=9, save_last=False)
    assert seen == [[], ["best_mIoU_iter_1.pth"]]
    assert checkpoints(tmp_path) == ["best_mIoU_iter_2.pth"]


@pytest.mark.parametrize(
    "options",
    [
        dict(max_keep_ckpts=2),
        dict(max_keep_ckpts=1, save_best="mIoU"),
        dict(max_keep_ckpts=1, save_best="mIoU", by_epoch=True),
        dict(max_keep_ckpts=1, save_best="mIoU", filename_tmpl="latest.pth"),
    ],
)
def test_it_keeps_the_files_that_mmengines_hook_keeps(train, tmp_path, options):
    names = []
    for hook in (CheckpointHook, SafeCheckpointHook):
        train(4, hook, **options)
        names.append(checkpoints(tmp_path))
        for path in tmp_path.glob("*.pth"):
            path.unlink()
    assert names[0] == names[1] != []


def test_a_resumed_run_replaces_what_a_killed_one_left(train, tmp_path):
    train(2, max_keep_ckpts=1)
    (tmp_path / ".iter_3.partial.pth").write_bytes(b"half")
    train(3, max_keep_ckpts=1, resume=find_newest(tmp_path))
    assert checkpoints(tmp_path) == ["iter_3.pth"]
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_removed_where_nothing_can_be_written(train, tmp_path, monkeypatch):
    train(1, max_keep_ckpts=1)
    monkeypatch.setattr(AtomicBackend, "put", Mock(side_effect=OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        train(2, max_keep_ckpts=1, resume=find_newest(tmp_path))
    assert checkpoints(tmp_path) == ["iter_1.pth"]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 1 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**3, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, full_disk):
    target = tmp_path / "iter_1.pth"
    target.write_bytes(b"before")
    with pytest.raises(OSError, match="File too large"):
        AtomicBackend().put(bytes(10**6), target)
    assert [path.name for path in tmp_path.iterdir()] == ["iter_1.pth"]
    assert target.read_bytes() == b"before"


def test_other_backends_are_left_alone():
    assert SafeCheckpointHook().backend_args == dict(backend=BACKEND)
    assert SafeCheckpointHook(out_dir="s3://bucket/runs").backend_args is None
    local = dict(backend="local")
    assert SafeCheckpointHook(backend_args=local).backend_args == local
