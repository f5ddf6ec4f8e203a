"""Checkpoint files are read without running code from them."""

import os
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from torch import nn

from mmseg_dynet.apis import load_config
from mmseg_dynet.engine.checkpoint import (
    find_newest,
    is_whole,
    load_from_file,
    read_checkpoint,
    weights_of,
)

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


class Call:
    """What pickle turns into a call of a function when it is read."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


META = dict(classes=["sky"], groups=ConfigDict(flat=[0]))


def training_state() -> dict:
    """What MMEngine keeps of a training, small."""
    weights = OrderedDict({"backbone.weight": torch.arange(6.0).view(2, 3)})
    weights._metadata = OrderedDict({"": {"version": 1}})
    history = HistoryBuffer([0.5, 0.25], [1, 1])
    return dict(
        meta=dict(epoch=0, iter=2, cfg="model = dict()", dataset_meta=META),
        state_dict=weights,
        optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2, 3))}),
        param_schedulers=[dict(anneal_func=OneCycleParamScheduler._annealing_cos)],
        message_hub=dict(
            log_scalars={"train/loss": history, "empty": HistoryBuffer()},
            runtime_info=OrderedDict(
                best_score=np.float64(0.5), mean=np.float32(0.25), count=np.int64(3)
            ),
        ),
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_all_of_a_training_is_read(tmp_path, zipped):
    path = tmp_path / "iter_2.pth"
    torch.save(training_state(), path, _use_new_zipfile_serialization=zipped)
    state, expected = load_from_file(str(path)), training_state()
    assert state["meta"] == expected["meta"]
    assert state["param_schedulers"] == expected["param_schedulers"]
    hub = state["message_hub"]
    assert hub["runtime_info"] == expected["message_hub"]["runtime_info"]
    history = hub["log_scalars"]["train/loss"]
    assert [part.tolist() for part in history.data] == [[0.5, 0.25], [1, 1]]
    history.update(0.75)
    assert history.statistics("max") == 0.75
    for name in ("state_dict", "optimizer"):
        assert str(state[name]) == str(expected[name])
    assert state["state_dict"]._metadata == expected["state_dict"]._metadata


def test_a_history_that_numpy_1_wrote_is_read(tmp_path):
    newer, older = tmp_path / "newer.pth", tmp_path / "older.pth"
    torch.save(training_state(), newer)
    with zipfile.ZipFile(newer) as source, zipfile.ZipFile(older, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"cnumpy._core.", b"cnumpy.core."))
    history = load_from_file(older)["message_hub"]["log_scalars"]["train/loss"]
    assert history.mean() == 0.375


@pytest.mark.recent_torch
@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch executed"),
        (exec, "open('executed', 'w').close()"),
        # Harmless by itself: it hands out what others could call.
        (getattr, HistoryBuffer, "__init__"),
        (getattr, OneCycleParamScheduler, "step"),
        (getattr, [], "append"),
    ],
    ids=["system", "exec", "history", "schedule", "list"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused(tmp_path, monkeypatch, call, zipped):
    monkeypatch.chdir(tmp_path)
    content = training_state()
    content["meta"]["extra"] = Call(*call)
    torch.save(content, "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"evil\.pth holds more than weights"):
        load_from_file("evil.pth")
    assert not Path("executed").exists()
    # The file is what it is said to be, and the remedy of the message works.
    weights = torch.load("evil.pth", weights_only=False)["state_dict"]
    assert Path("executed").exists() == (call[0] is not getattr)
    torch.save(weights, "weights.pth")
    read = weights_of(read_checkpoint("weights.pth"))
    assert torch.equal(read["backbone.weight"], weights.popitem()[1])


def test_a_config_in_a_checkpoint_is_not_executed(tmp_path):
    """MMEngine's Runner executes it when it resumes."""
    content = training_state()
    content["meta"]["config"] = "import os"
    torch.save(content, tmp_path / "evil.pth")
    assert "config" not in load_from_file(tmp_path / "evil.pth")["meta"]


def test_reading_a_config_leaves_mmengines_loader_alone():
    load_config(CONFIG)
    assert CheckpointLoader._get_checkpoint_loader("a.pth") is load_from_local


@pytest.mark.recent_torch
@pytest.mark.parametrize(
    "tool", [("test.py",), ("analysis_tools/compare.py", "--checkpoints")]
)
def test_tools_run_no_code(tool, tmp_path, run_tool, write_config):
    checkpoint = tmp_path / "evil.pth"
    torch.save({"x": Call(os.system, f"touch {tmp_path}/executed")}, checkpoint)
    with pytest.raises(ValueError, match=f"{checkpoint} holds more than weights"):
        run_tool(tool[0], write_config("dy-"), *tool[1:], checkpoint)
    assert not (tmp_path / "executed").exists()


def test_what_is_not_a_whole_checkpoint_is_named(tmp_path):
    path = tmp_path / "half.pth"
    torch.save(training_state(), path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(torch.arange(6.0).numpy().tobytes())] ^= 1
    for damaged in (b"", b"weights\n", b"\x80\x02}q\x00.", content[:-100]):
        path.write_bytes(damaged)
        assert not is_whole(path)
        with pytest.raises(ValueError, match=r"half\.pth is cut off, damaged or not a"):
            load_from_file(path)
    path.write_bytes(flipped)
    assert not is_whole(path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(ValueError, match=r"half\.pth holds a list"):
        load_from_file(path)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.pth"):
        load_from_file(tmp_path / "gone.pth")
    torch.save(training_state(), path)
    with pytest.raises(RuntimeError, match="CUDA"):
        load_from_file(path, "cuda:99")


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_weights_are_found_without_the_prefix_of_a_wrapper(key, tmp_path):
    weights = nn.DataParallel(nn.Linear(2, 2)).state_dict()
    torch.save(weights if key is None else {key: weights, "epoch": 1}, tmp_path / "a")
    assert list(weights_of(read_checkpoint(str(tmp_path / "a")))) == ["weight", "bias"]


@pytest.mark.parametrize("checkpoint", [{"epoch": 1}, {"model": "resnet18"}, {}])
def test_what_has_no_weights_is_named(checkpoint):
    match = r"no weights under state_dict or model.*it has " + ", ".join(checkpoint)
    with pytest.raises(ValueError, match=match):
        weights_of(checkpoint)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder of three checkpoints, the last of which is named."""
    for number in (1, 2, 3):
        torch.save(training_state(), tmp_path / f"iter_{number}.pth")
        os.utime(tmp_path / f"iter_{number}.pth", (number, number))
    (tmp_path / "last_checkpoint").write_text(f"/moved/from/{tmp_path}/iter_3.pth")
    torch.save(training_state(), tmp_path / "best_mIoU_iter_3.pth")
    return tmp_path


@pytest.mark.parametrize(
    ("content", "newest"),
    [(None, 1), (b"", 3), (b"\xff", 3), (b"iter_9.pth", 3), (b"iter_2.pth", 2)],
)
def test_the_newest_checkpoint_is_found(run, content, newest):
    if content is None:
        (run / "last_checkpoint").unlink()
        os.utime(run / "iter_1.pth", (4, 4))  # of a second training
    else:
        (run / "last_checkpoint").write_bytes(content)
    assert find_newest(run) == str(run / f"iter_{newest}.pth")


def test_a_copied_run_has_checkpoints_of_its_own(run, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(run, copy, dirs_exist_ok=True)
    (run / "last_checkpoint").write_text(str(run / "iter_3.pth"))
    shutil.copy(run / "last_checkpoint", copy)
    assert find_newest(copy) == str(copy / "iter_3.pth")


def test_a_remote_checkpoint_is_found(run):
    (run / "last_checkpoint").write_text("s3://bucket/run/iter_4.pth")
    assert find_newest(run) == "s3://bucket/run/iter_4.pth"
    assert find_newest(run / "nowhere") is None


def test_a_named_checkpoint_may_be_a_folder_but_not_absent(tmp_path):
    """DeepSpeed's are folders; a disk may not be mounted."""
    (tmp_path / "iter_4.pth").mkdir()
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_4.pth"))
    assert find_newest(tmp_path) == str(tmp_path / "iter_4.pth")
    (tmp_path / "iter_4.pth").rmdir()
    with pytest.raises(FileNotFoundError, match=r"names .*iter_4\.pth, which is not"):
        find_newest(tmp_path)


def test_damaged_checkpoints_are_passed_over(run, capsys):
    for number in (3, 2, 1):
        path = run / f"iter_{number}.pth"
        assert find_newest(run) == str(path)
        path.write_bytes(path.read_bytes()[:-1])
    assert "iter_3.pth is damaged" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"all checkpoints in .* are damaged"):
        find_newest(run)
