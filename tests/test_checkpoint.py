"""Checkpoint files are read without running code from them."""

import functools
import os
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from packaging.version import Version

from mmseg_dynet.apis import build_model
from mmseg_dynet.checkpoint import (
    is_whole,
    load_from_file,
    read_weights,
    use_safe_loading,
)

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/fcn/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


class Call:
    """What pickle turns into a call of a function when it is read."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there as soon as code of a checkpoint has run."""
    return tmp_path / "executed"


@pytest.fixture
def safe_loading() -> Iterator[None]:
    use_safe_loading()
    yield
    CheckpointLoader.register_scheme("", load_from_local, force=True)


@pytest.fixture(params=["this", "old"])
def any_torch(request, monkeypatch) -> None:
    """Read by the torch that is installed, and as an old one has to."""
    if request.param == "old":
        monkeypatch.setattr("mmseg_dynet.checkpoint.SAFE_TORCH", Version("99"))


def training_state() -> dict:
    """What MMEngine keeps of a training, small."""
    weights = OrderedDict({"backbone.weight": torch.arange(6.0).view(2, 3)})
    weights._metadata = OrderedDict({"": {"version": 1}})
    history = HistoryBuffer([0.5, 0.25], [1, 1])
    return dict(
        meta=dict(epoch=0, iter=2, cfg="model = dict()", dataset_meta=dict(a=[1])),
        state_dict=weights,
        optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2, 3))}),
        message_hub=dict(
            log_scalars={"train/loss": history},
            runtime_info=OrderedDict(
                best_score=np.float64(0.5), mean=np.float32(0.25), count=np.int64(3)
            ),
            resumed_keys=OrderedDict({"train/loss": True}),
        ),
    )


def test_all_of_a_training_is_read(any_torch, tmp_path):
    path = tmp_path / "iter_2.pth"
    torch.save(training_state(), path)
    state, expected = load_from_file(str(path)), training_state()
    assert state["meta"] == expected["meta"]
    assert (
        state["message_hub"]["runtime_info"]
        == (expected["message_hub"]["runtime_info"])
    )
    history = state["message_hub"]["log_scalars"]["train/loss"]
    values, counts = history.data
    assert values.tolist() == [0.5, 0.25] and counts.tolist() == [1, 1]
    assert history.statistics("mean") == 0.375
    for name in ("state_dict", "optimizer"):
        assert str(state[name]) == str(expected[name])
    assert state["state_dict"]._metadata == expected["state_dict"]._metadata


def write(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


@pytest.mark.parametrize(
    ("make", "refused"),
    [
        (lambda marker: Call(os.system, f"touch {marker}"), "posix.system"),
        (lambda marker: Call(exec, write(marker)), "exec"),
        (lambda marker: Call(functools.partial(exec, write(marker))), "functools"),
        # Harmless by itself: it hands out what others could call.
        (lambda _: Call(getattr, HistoryBuffer, "__init__"), "getattr"),
    ],
    ids=["system", "exec", "partial", "getattr"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_named(any_torch, tmp_path, marker, make, refused, zipped):
    content = training_state()
    content["meta"]["extra"] = make(marker)
    path = tmp_path / "evil.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"evil\.pth asks for .*{refused}") as caught:
        load_from_file(str(path))
    assert not marker.exists()
    # The remedy that the error names, for those who trust the file: it runs the code.
    code = re.search(r'python -c "(.*)"', str(caught.value))[1]
    exec(code)
    assert marker.exists() == (refused != "getattr")
    weights = load_from_file(str(tmp_path / "evil_weights.pth"))
    assert torch.equal(weights["backbone.weight"], torch.arange(6.0).view(2, 3))


def test_a_config_in_a_checkpoint_is_not_executed(tmp_path, marker):
    code = f"x = {write(marker)}"
    content = training_state()
    content["meta"]["config"] = code
    torch.save(content, tmp_path / "evil.pth")
    state = load_from_file(str(tmp_path / "evil.pth"))
    assert "config" not in state["meta"]
    # MMEngine would have done this with it.
    Config.fromstring(code, file_format=".py")
    assert marker.exists()


@pytest.mark.parametrize(
    "content", [b"", b"weights\n", b"\x80\x02}q\x00.", "cut", "zip"]
)
def test_what_is_no_whole_checkpoint_is_named(any_torch, tmp_path, content):
    path = tmp_path / "half.pth"
    if content == "cut":
        torch.save(training_state(), path)
        path.write_bytes(path.read_bytes()[:-100])
    elif content == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("document.xml", "text")
    else:
        path.write_bytes(content)
    assert not is_whole(path)
    with pytest.raises(ValueError, match=r"half\.pth is cut off, damaged or no check"):
        load_from_file(str(path))


def test_other_contents_and_other_errors_are_told_apart(any_torch, tmp_path):
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds a list"):
        load_from_file(str(tmp_path / "list.pth"))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.pth"):
        load_from_file(str(tmp_path / "gone.pth"))
    torch.save(training_state(), tmp_path / "good.pth")
    with pytest.raises(RuntimeError, match="CUDA"):
        load_from_file(str(tmp_path / "good.pth"), "cuda:99")


def test_older_formats_are_read(any_torch, tmp_path):
    path = tmp_path / "old.pth"
    torch.save(training_state(), path, _use_new_zipfile_serialization=False)
    assert torch.equal(
        load_from_file(str(path))["state_dict"]["backbone.weight"],
        torch.arange(6.0).view(2, 3),
    )


def test_weights_come_without_the_prefix_of_a_wrapper(tmp_path):
    path = tmp_path / "wrapped.pth"
    torch.save({"module.a": torch.ones(1), "b.module.c": torch.zeros(1)}, path)
    assert read_weights(str(path)).keys() == {"a", "b.module.c"}


def test_all_of_mmengine_reads_safely_once_told_to(tmp_path, marker, safe_loading):
    torch.save({"x": Call(os.system, f"touch {marker}")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"posix\.system"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "evil.pth"))
    assert not marker.exists()


def test_a_built_model_runs_no_code(tmp_path, marker):
    torch.save({"x": Call(os.system, f"touch {marker}")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"posix\.system"):
        build_model(Config.fromfile(CONFIG), str(tmp_path / "evil.pth"))
    assert not marker.exists()


@pytest.mark.parametrize("tool", ["test.py", "train.py"])
def test_the_tools_run_no_code(tmp_path, marker, synthetic_streets, tool):
    content = training_state()
    content["meta"]["extra"] = Call(os.system, f"touch {marker}")
    checkpoint = tmp_path / "iter_1.pth"
    torch.save(content, checkpoint)
    assert is_whole(checkpoint)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools" / tool, CONFIG,
         checkpoint if tool == "test.py" else "--resume", "--work-dir", tmp_path,
         "--cfg-options", *(
             f"{split}_dataloader.dataset.data_root={synthetic_streets}"
             for split in ("train", "val", "test")
         )],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"ValueError: {checkpoint} asks for posix.system" in done.stderr
    assert not marker.exists()
    # The file is what it is said to be.
    pickle.loads(pickle.dumps(content["meta"]["extra"]))
    assert marker.exists()


@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["tar", "TorchScript"])
def test_archives_that_torch_reads_by_other_means_are_refused(
    any_torch, tmp_path, kind
):
    path = tmp_path / "archive.pth"
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(CONFIG, "storages")
    else:
        torch.jit.trace(torch.nn.ReLU(), torch.ones(1)).save(path)
    with pytest.raises(ValueError, match=r"archive\.pth is cut off, damaged or no"):
        load_from_file(str(path))
