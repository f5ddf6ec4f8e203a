"""Checkpoints are whole or absent, and old ones go last."""

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmseg_dynet import cli
from mmseg_dynet.engine import SafeCheckpointHook
from mmseg_dynet.engine.checkpoint import find_newest, is_whole, load_from_file
from mmseg_dynet.engine.checkpoint_hook import BACKEND, WholeFileBackend


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
    """Train a toy for some iterations, SGD with step 1 and a checkpoint in each."""

    def run(iterations: int, hook: type = SafeCheckpointHook, **options) -> Runner:
        resume = options.pop("resume", None)
        runner = Runner(
            Toy(),
            work_dir=str(tmp_path),
            train_dataloader=dict(
                dataset=list(range(8)), sampler=dict(type="DefaultSampler")
            ),
            train_cfg=dict(by_epoch=False, max_iters=iterations, val_interval=1),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
            val_dataloader=dict(
                dataset=[0], sampler=dict(type="DefaultSampler", shuffle=False)
            ),
            val_cfg=dict(),
            val_evaluator=Evaluator(Score()),
            default_hooks=dict(
                checkpoint=dict(type=hook, interval=1, by_epoch=False, **options)
            ),
            load_from=resume,
            resume=resume is not None,
            experiment_name=f"{request.node.name}{len(MMLogger._instance_dict)}",
        )
        runner.train()
        return runner

    return run


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written and removed, in this order."""
    log = []
    put, remove = WholeFileBackend.put, WholeFileBackend.remove

    def logged_put(self, obj: bytes, filepath: str) -> None:
        put(self, obj, filepath)
        log.append(f"put {Path(filepath).name}")

    def logged_remove(self, filepath: str) -> None:
        remove(self, filepath)
        log.append(f"remove {Path(filepath).name}")

    monkeypatch.setattr(WholeFileBackend, "put", logged_put)
    monkeypatch.setattr(WholeFileBackend, "remove", logged_remove)
    return log


def test_an_old_checkpoint_is_removed_when_the_new_one_and_its_name_are_there(
    train, tmp_path, events
):
    train(3, max_keep_ckpts=1)
    assert events == [
        "put iter_1.pth", "put last_checkpoint",
        "put iter_2.pth", "put last_checkpoint", "remove iter_1.pth",
        "put iter_3.pth", "put last_checkpoint", "remove iter_2.pth",
    ]  # fmt: skip
    assert find_newest(tmp_path) == tmp_path / "iter_3.pth"
    weights = load_from_file(tmp_path / "iter_3.pth")["state_dict"]["weight"]
    assert torch.equal(weights, torch.full((1000,), 3.0))


def test_the_best_checkpoint_is_replaced_before_it_is_removed(train, events):
    train(2, save_best="mIoU")
    best = [e for e in events if "best" in e]
    assert best == [
        "put best_mIoU_iter_1.pth",
        "put best_mIoU_iter_2.pth",
        "remove best_mIoU_iter_1.pth",
    ]


def test_it_keeps_the_files_that_mmengines_hook_keeps(train, tmp_path):
    names = []
    for hook in (CheckpointHook, SafeCheckpointHook):
        train(4, hook, max_keep_ckpts=2)
        names.append(sorted(path.name for path in tmp_path.glob("*.pth")))
        for path in tmp_path.glob("*.pth"):
            path.unlink()
    assert names == [["iter_3.pth", "iter_4.pth"]] * 2


def test_a_run_that_resumes_removes_what_a_killed_one_left(train, tmp_path):
    train(2, max_keep_ckpts=1)
    # As if killed before iter_1 was removed, and while iter_3 was being written.
    (tmp_path / "iter_1.pth").write_bytes(b"old")
    (tmp_path / ".iter_3.123.partial.pth").write_bytes(b"half")
    (tmp_path / ".last_checkpoint.123.partial").write_bytes(b"half")
    train(3, max_keep_ckpts=1, resume=str(tmp_path / "iter_2.pth"))
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_3.pth"]
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_leaves_the_last_checkpoint(train, tmp_path, monkeypatch):
    fsync, synced = os.fsync, []

    def full(file: int) -> None:
        synced.append(file)
        if len(synced) > 4:  # two files with their folders
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*iter_2\.pth") as caught:
        train(3, max_keep_ckpts=1)
    assert caught.value.errno == errno.ENOSPC
    assert "--resume" in str(caught.value)
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_1.pth"]
    assert is_whole(tmp_path / "iter_1.pth")
    assert not list(tmp_path.glob(".*partial*"))


def test_a_file_system_that_cannot_sync_a_folder_keeps_checkpoints(
    train, tmp_path, monkeypatch
):
    fsync = os.fsync

    def files_only(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(file)

    monkeypatch.setattr(os, "fsync", files_only)
    train(2)
    assert is_whole(tmp_path / "iter_2.pth")


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow beyond 100 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_limit_of_the_system_ends_a_write_with_nothing(tmp_path, small_files):
    target = tmp_path / "iter_1.pth"
    target.write_bytes(b"before")
    with pytest.raises(OSError, match=r"File too large; earlier .*'/.*/iter_1\.pth'"):
        WholeFileBackend().put(bytes(10**6), target)
    assert os.listdir(tmp_path) == ["iter_1.pth"]
    assert target.read_bytes() == b"before"


def test_other_backends_are_left_alone():
    assert SafeCheckpointHook().backend_args == dict(backend=BACKEND)
    assert SafeCheckpointHook(out_dir="s3://bucket/runs").backend_args is None
    local = dict(backend="local")
    assert SafeCheckpointHook(backend_args=local).backend_args == local
    assert type(get_file_backend(backend_args=dict(backend=BACKEND))) is (
        WholeFileBackend
    )


@pytest.mark.parametrize("damage", ["missing", "empty", "names a gone file", "binary"])
def test_the_newest_whole_checkpoint_is_found(train, tmp_path, damage):
    train(3)
    pointer = tmp_path / "last_checkpoint"
    if damage == "missing":
        pointer.unlink()
    else:
        content = {"empty": b"", "names a gone file": b"x/gone.pth", "binary": b"\xff"}
        pointer.write_bytes(content[damage])
    assert find_newest(tmp_path) == tmp_path / "iter_3.pth"


def test_checkpoints_that_are_cut_off_or_damaged_are_passed_over(
    train, tmp_path, capsys
):
    train(3)
    newest, second = tmp_path / "iter_3.pth", tmp_path / "iter_2.pth"
    newest.write_bytes(newest.read_bytes()[:-1])
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1  # one bit of a weight
    second.write_bytes(content)
    assert find_newest(tmp_path) == tmp_path / "iter_1.pth"
    assert capsys.readouterr().err.count("is not whole") == 2
    (tmp_path / "iter_1.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 3 checkpoints in .* is whole"):
        find_newest(tmp_path)


def test_the_pointer_decides_between_runs_and_the_clock_within_one(train, tmp_path):
    train(2)
    first, second = tmp_path / "iter_1.pth", tmp_path / "iter_2.pth"
    pointer = tmp_path / "last_checkpoint"
    assert Path(pointer.read_text()) == second
    # Killed between a checkpoint and its name.
    pointer.write_text(str(first))
    assert find_newest(tmp_path) == second
    # A run that started anew beside the checkpoints of an earlier one.
    os.utime(second, (0, 0))
    assert find_newest(tmp_path) == first
    # Copied, so that files are of one age or of any; moved, so that the name is stale.
    pointer.write_text("/elsewhere/iter_2.pth")
    assert find_newest(tmp_path) == second


def test_a_best_checkpoint_is_not_resumed_from(train, tmp_path):
    train(1, save_best="mIoU")
    assert "optimizer" not in load_from_file(tmp_path / "best_mIoU_iter_1.pth")
    (tmp_path / "last_checkpoint").unlink()
    assert find_newest(tmp_path) == tmp_path / "iter_1.pth"
    assert find_newest(tmp_path / "nowhere") is None


def test_resume_of_the_tools_goes_on_from_the_newest(train, tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from=None, resume=False))
    cli.resume(cfg)
    assert not cfg.resume and cfg.load_from is None

    train(2)
    (tmp_path / "iter_2.pth").write_bytes(b"cut off")
    cli.resume(cfg)
    assert cfg.resume and cfg.load_from == str(tmp_path / "iter_1.pth")
    train(3, resume=cfg.load_from)
    weights = load_from_file(str(tmp_path / "iter_3.pth"))["state_dict"]["weight"]
    assert torch.equal(weights, torch.full((1000,), 3.0))


@pytest.mark.parametrize("trained", [0, 2])
def test_resume_tells_where_weights_come_from(trained, train, tmp_path):
    """A config's load_from is what training starts from, not where it has got to."""
    if trained:
        train(trained)
    cfg = Config(dict(work_dir=str(tmp_path), load_from="static.pth"))
    cli.resume(cfg, {"optim_wrapper.optimizer.lr": 0.1})
    newest = str(tmp_path / f"iter_{trained}.pth") if trained else "static.pth"
    assert (cfg.resume, cfg.load_from) == (trained > 0, newest)

    another = str(tmp_path / "another.pth")
    torch.save(dict(state_dict={}, meta=dict(seed=9)), another)
    cfg = Config(dict(work_dir=str(tmp_path), load_from=another))
    cli.resume(cfg, {"load_from": another})
    assert cfg.resume and cfg.load_from == another
    assert cfg.randomness == dict(seed=9)


@pytest.mark.parametrize("chosen", [None, 5])
def test_resume_has_the_seed_that_training_began_with(chosen, train, tmp_path):
    """Unless the config says another: MMEngine warns of it then."""
    train(1)
    seed = load_from_file(str(tmp_path / "iter_1.pth"))["meta"]["seed"]
    cfg = Config(dict(work_dir=str(tmp_path), randomness=dict(seed=chosen)))
    cli.resume(cfg)
    assert cfg.randomness.seed == (seed if chosen is None else chosen)
