"""Checkpoint files are read without running code from them."""

import codecs
import ctypes
import functools
import io
import os
import pickle
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from packaging.version import Version
from torch import nn
from torch.nn import Parameter

from mmseg_dynet.apis import build_model
from mmseg_dynet.engine.checkpoint import (
    is_whole,
    load_from_file,
    read_weights,
    use_safe_loading,
    weights_of,
)

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


class Call:
    """What pickle turns into a call of a function when it is read.

    Args:
        function: The function.
        arguments: What it is called with.
        state: What its result is given then, unless None.
    """

    def __init__(
        self, function: object, *arguments: object, state: object = None
    ) -> None:
        self.call = function, arguments, state

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


@pytest.mark.parametrize("zipped", [True, False])
def test_all_of_a_training_is_read(tmp_path, zipped):
    path = tmp_path / "iter_2.pth"
    torch.save(training_state(), path, _use_new_zipfile_serialization=zipped)
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
    history.update(0.75)
    assert history.statistics("max") == 0.75
    for name in ("state_dict", "optimizer"):
        assert str(state[name]) == str(expected[name])
    assert state["state_dict"]._metadata == expected["state_dict"]._metadata


VALUES = {
    "parameter": Parameter(torch.ones(2), requires_grad=False),
    "transposed": torch.arange(6.0).view(2, 3).t(),
    "scalar": torch.tensor(3.0, requires_grad=True),
    "empty": torch.zeros(0, 4),
    "array": np.arange(6.0).reshape(2, 3),
    "Fortran": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    "no array": np.array([]),
    "mask": np.array([True, False]),
    "number": np.float32(0.1),
    "truth": np.bool_(True),
    "size": torch.Size([2, 3]),
    "type": torch.float16,
    "device": torch.device("cpu"),
    "set": {1, 2},
    "complex": 1 + 2j,
    "bytes": b"\x00\xff",
    "tuple": (None, True, -1, 1 << 70, 0.5, "ä"),
} | {
    str(dtype): torch.tensor([0, 1, 1]).to(dtype)
    for dtype in (torch.bfloat16, torch.float16, torch.int8, torch.int64, torch.bool)
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", VALUES)
def test_values_are_read_as_they_were(tmp_path, kind, zipped):
    expected = VALUES[kind]
    path = tmp_path / "values.pth"
    torch.save({"x": expected}, path, _use_new_zipfile_serialization=zipped)
    value = load_from_file(str(path))["x"]
    assert type(value) is type(expected)
    if isinstance(value, torch.Tensor):
        assert value.dtype == expected.dtype and torch.equal(value, expected)
        assert value.stride() == expected.stride()
        assert value.requires_grad == expected.requires_grad
    elif isinstance(value, np.ndarray):
        assert value.dtype == expected.dtype and np.array_equal(value, expected)
        assert value.flags.f_contiguous == expected.flags.f_contiguous
    else:
        assert value == expected


def test_tensors_share_their_storage_as_before(tmp_path):
    weight = torch.arange(4.0)
    torch.save({"a": weight, "b": weight[1:]}, tmp_path / "tied.pth")
    state = load_from_file(str(tmp_path / "tied.pth"))
    state["a"][1] = 7
    assert state["b"].tolist() == [7, 2, 3]


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
def test_code_is_refused_and_named(
    tmp_path, marker, monkeypatch, make, refused, zipped
):
    content = training_state()
    content["meta"]["extra"] = make(marker)
    path = tmp_path / "evil's $HOME.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"HOME\.pth asks for .*{refused}") as caught:
        load_from_file(str(path))
    assert not marker.exists()
    # The remedy that the error names, for those who trust the file: it runs the code.
    python, option, code, *paths = shlex.split(str(caught.value).splitlines()[1])
    assert (python, option) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", [option, *paths])
    exec(code, {})
    assert marker.exists() == (refused != "getattr")
    weights = load_from_file(str(tmp_path / "evil's $HOME_weights.pth"))
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


SECRET = ctypes.create_string_buffer(b"secret")
OUTSIDE = torch.storage.TypedStorage(
    wrap_storage=torch.ones(2).untyped_storage(), dtype=torch.float32, _internal=True
)


def with_attribute(name: str, value: object) -> OrderedDict:
    """A dict that pickle gives an attribute."""
    content = OrderedDict(meta=dict(config="x = 1"))
    setattr(content, name, value)
    return content


def pointing_at_secret() -> Call:
    """A history that NumPy fills from an address in memory."""
    place = with_attribute(
        "__array_interface__",
        dict(
            version=3,
            shape=(6,),
            typestr="|u1",
            data=(ctypes.addressof(SECRET), True),
        ),
    )
    return Call(HistoryBuffer, place, place)


@pytest.mark.parametrize(
    ("make", "refused", "works"),
    [
        (
            lambda: with_attribute("get", torch.device),
            "asks for attributes of an OrderedDict",
            lambda x: x.get("meta") == torch.device("meta"),
        ),
        (
            pointing_at_secret,
            "asks for attributes of an OrderedDict",
            lambda x: bytes(x.data[0]) == b"secret",
        ),
        (
            lambda: Call(HistoryBuffer, [1.0], [1]),
            r"asks for a call of mmengine\..*\.HistoryBuffer",
            lambda x: x.mean() == 1,
        ),
        (
            lambda: Call(np.ndarray, (2,), "i8"),
            r"asks for a call of numpy\.ndarray",
            lambda x: x.shape == (2,),
        ),
        (
            lambda: np.array([None]),
            r"asks for numpy\.dtype\('O8'\)",
            lambda x: x.dtype == object,
        ),
        (
            lambda: np.zeros(2, [("a", "i8")]),
            r"asks for numpy\.dtype\('V8'\)",
            lambda x: x.dtype.names == ("a",),
        ),
        (
            lambda: np.ones(1, ">f8"),
            r"asks for another numpy\.dtype than float64",
            lambda x: x.tolist() == [1],
        ),
        (
            lambda: torch.tensor([1j]).conj(),
            "asks for a tensor that is a conjugate or negative view",
            lambda x: x.is_conj(),
        ),
        (
            lambda: Call(codecs.encode, "a", "rot13"),
            r"asks for _codecs\.encode",
            lambda x: x == "n",
        ),
        (
            lambda: Call(OrderedDict, state={"_metadata": {}}),
            "asks for attributes of an OrderedDict",
            lambda x: x._metadata == {},
        ),
    ],
    ids=[
        "dict with methods",
        "memory",
        "history",
        "array",
        "objects",
        "fields",
        "byte order",
        "view",
        "codec",
        "metadata",
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_allowed_names_cannot_be_misused(tmp_path, make, refused, works, zipped):
    path = tmp_path / "evil.pth"
    torch.save({"x": make()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"evil\.pth .*{refused}"):
        load_from_file(str(path))
    # The file is what it is said to be.
    assert works(torch.load(path, weights_only=False)["x"])


def write_zip(path: Path, pickled: bytes, **storages: bytes) -> None:
    """A checkpoint as torch writes it, of a pickle made by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        for name, content in storages.items():
            archive.writestr(f"archive/data/{name}", content)


HISTORY = b"cmmengine.logging.history_buffer\nHistoryBuffer\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    ("value", "refused", "works"),
    [
        (
            REBUILD + b"}X\x07\0\0\0touchedK\x01sb",
            r"a state of torch\._utils\._rebuild_tensor_v2",
            lambda x: vars(x).pop("touched") == 1,
        ),
        (
            b"]K\x01aK\0K\x02s",
            "an item of list",
            lambda x: x == [2],
        ),
        (
            b"ccollections\nOrderedDict\n)\x81",
            r"an object of collections\.OrderedDict",
            lambda x: x == {},
        ),
        (
            HISTORY + b"K\x02\x85\x81",
            "an object of mmengine",
            lambda x: type(x) is HistoryBuffer,
        ),
        (
            HISTORY + b")\x81}X\x0a\0\0\0max_lengthK\x01sb",
            "a HistoryBuffer of other contents",
            lambda x: x.max_length == 1,
        ),
        (b"(K\x02inumpy\nndarray\n", "the opcode b'i'", lambda x: x.shape == (2,)),
        (b"(cnumpy\nndarray\nK\x02o", "the opcode b'o'", lambda x: x.shape == (2,)),
        (
            b"cnumpy\nndarray\nK\x02\x85}\x92",
            r"the opcode b'\\x92'",
            lambda x: x.shape == (2,),
        ),
    ],
    ids=[
        "state of a function",
        "item of a list",
        "object",
        "history with arguments",
        "history in part",
        "INST",
        "OBJ",
        "NEWOBJ_EX",
    ],
)
def test_opcodes_cannot_be_misused(tmp_path, value, refused, works):
    path = tmp_path / "evil.pth"
    pickled = b"\x80\x02}X\x01\0\0\0x" + value + b"s."
    write_zip(path, pickled)
    with pytest.raises(ValueError, match=rf"evil\.pth .*{refused}"):
        load_from_file(str(path))
    assert works(pickle.loads(pickled)["x"])


class Outside:
    """What pickle leaves to its reader to find, by what it is told."""

    def __init__(self, *where: object) -> None:
        self.where = where


class OutsidePickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> tuple | None:
        return obj.where if isinstance(obj, Outside) else None


def pickle_outside(content: object) -> bytes:
    file = io.BytesIO()
    OutsidePickler(file, protocol=2).dump(content)
    return file.getvalue()


def write_legacy(path: Path, pickled: bytes, **storages: bytes) -> None:
    """A checkpoint as torch before 1.6 writes it, of a pickle, and of storages."""
    header = torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}
    parts = [pickle.dumps(part, protocol=2) for part in header]
    parts += [pickled, pickle.dumps([*storages], protocol=2)]
    for content in storages.values():
        parts += [len(content).to_bytes(8, "little"), content]
    path.write_bytes(b"".join(parts))


def test_nothing_but_storages_comes_from_outside(tmp_path):
    path = tmp_path / "evil.pth"
    module = Outside("module", torch.device, "", "")
    write_legacy(path, pickle_outside({"x": module}))
    with pytest.raises(ValueError, match="asks for what stands outside of its pickle"):
        load_from_file(str(path))
    assert torch.load(path, weights_only=False)["x"] is torch.device


def test_a_tensor_stays_within_its_storage(tmp_path):
    path = tmp_path / "evil.pth"
    storage = Outside("storage", torch.ByteStorage, "0", "cpu", 4)
    for size, stride, inside in [
        ((4,), (1,), True),
        ((2, 2), (2, 1), True),
        ((4,), (0,), True),
        ((0, 9), (9, 1), True),
        ((5,), (1,), False),
        ((2, 2), (3, 1), False),
    ]:
        tensor = Call(torch._utils._rebuild_tensor, storage, 0, size, stride)
        write_zip(path, pickle_outside({"x": tensor}), **{"0": b"abcd"})
        if inside:
            assert load_from_file(str(path))["x"].shape == size
        else:
            with pytest.raises(ValueError, match="a tensor reaches out of its storage"):
                load_from_file(str(path))


def test_a_storage_has_a_record(tmp_path):
    path = tmp_path / "evil.pth"
    storage = Outside("storage", torch.ByteStorage, "0", "cpu", 4, None)
    tensor = Call(torch._utils._rebuild_tensor, storage, 0, (4,), (1,))
    pickled = pickle_outside({"x": tensor})
    write_legacy(path, pickled, **{"0": b"abcd"})
    assert bytes(load_from_file(str(path))["x"].tolist()) == b"abcd"
    write_legacy(path, pickled)
    with pytest.raises(ValueError, match="a storage has no record"):
        load_from_file(str(path))
    # What it holds then is what was in that memory before.
    assert torch.load(path, weights_only=False)["x"].shape == (4,)
    write_legacy(path, pickled, **{"0": b"abc"})
    with pytest.raises(ValueError, match="size"):
        load_from_file(str(path))


def test_a_storage_is_not_longer_than_its_record(tmp_path):
    path = tmp_path / "evil.pth"
    storage = Outside("storage", torch.ByteStorage, "0", "cpu", 2)
    rebuild = torch._utils._rebuild_tensor_v2
    tensor = Call(rebuild, storage, 0, (2,), (1,), False, OrderedDict())
    pickled = pickle_outside({"x": tensor})
    write_zip(path, pickled, **{"0": b"ab"})
    assert bytes(load_from_file(str(path))["x"].tolist()) == b"ab"
    write_zip(path, pickled, **{"0": b"a"})
    with pytest.raises(ValueError, match="a storage of 2 bytes has 1"):
        load_from_file(str(path))
    if Version(torch.__version__) < Version("2.10"):  # reads what stands behind it
        assert torch.load(path, weights_only=False)["x"].numel() == 2


@pytest.mark.parametrize("shape", [(0,) * 70, (0, 1 << 62, 1 << 62), (3,), (-3, -1)])
def test_a_shape_of_an_array_is_checked(tmp_path, shape):
    # NumPy alone does not read them for comparison: for the first it reads its stack.
    reconstruct, arguments, state = np.zeros(0).__reduce__()
    array = Call(reconstruct, *arguments, state=(1, shape, *state[2:]))
    torch.save({"x": array}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth is cut off, damaged or no check"):
        load_from_file(str(tmp_path / "odd.pth"))


def test_hooks_and_statistics_of_a_file_are_dropped(tmp_path, monkeypatch):
    path = tmp_path / "evil.pth"
    rebuild = torch._utils._rebuild_tensor_v2
    hooks = OrderedDict({0: torch.device})
    with monkeypatch.context() as patch:
        patch.setitem(HistoryBuffer._statistics_methods, "mean", torch.device)
        history = HistoryBuffer([0.5], [1])
        tensor = Call(rebuild, OUTSIDE, 0, (2,), (1,), True, hooks)
        torch.save({"history": history, "tensor": tensor}, path)
    content = load_from_file(str(path))
    assert content["history"].statistics("mean") == 0.5
    assert not content["tensor"]._backward_hooks
    assert HistoryBuffer([1.0], [1]).statistics("mean") == 1
    with monkeypatch.context() as patch:
        patch.setattr(HistoryBuffer, "_statistics_methods", {})
        content = torch.load(path, weights_only=False)
        assert HistoryBuffer._statistics_methods["mean"] is torch.device
    assert content["tensor"]._backward_hooks == hooks


def test_meta_is_a_dict_or_refused(tmp_path):
    torch.save({"meta": "config"}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth holds a str as its meta"):
        load_from_file(str(tmp_path / "odd.pth"))


def test_only_best_checkpoints_of_the_same_folder_are_kept(tmp_path):
    named = {
        "best_ckpt": str(tmp_path / "best_mIoU_iter_1.pth"),
        "best_ckpt_a": "/etc/best_passwords.pth",
        "best_ckpt_b": str(tmp_path / "thesis.pth"),
        "best_ckpt_c": str(tmp_path / "best_a" / ".."),
        "best_score": 0.5,
    }
    content = training_state()
    content["message_hub"]["runtime_info"] = dict(named)
    torch.save(content, tmp_path / "iter_2.pth")
    info = load_from_file(str(tmp_path / "iter_2.pth"))["message_hub"]["runtime_info"]
    assert info == {name: named[name] for name in ("best_ckpt", "best_score")}


@pytest.mark.parametrize(
    "content", [b"", b"weights\n", b"\x80\x02}q\x00.", "cut", "zip"]
)
def test_what_is_no_whole_checkpoint_is_named(tmp_path, content):
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


def test_other_contents_and_other_errors_are_told_apart(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds a list"):
        load_from_file(str(tmp_path / "list.pth"))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.pth"):
        load_from_file(str(tmp_path / "gone.pth"))
    torch.save(training_state(), tmp_path / "good.pth")
    with pytest.raises(RuntimeError, match="CUDA"):
        load_from_file(str(tmp_path / "good.pth"), "cuda:99")


def test_weights_of_the_first_torch_are_read(tmp_path):
    path = tmp_path / "resnet.pth"
    buffer = Call(torch._utils._rebuild_tensor, OUTSIDE, 0, (2,), (1,))
    parameter = Call(Parameter, torch.zeros(2), state=(False, False, OrderedDict()))
    weights = Call(OrderedDict, [["mean", buffer], ["weight", parameter]])
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    weights = load_from_file(str(path))
    assert [*weights] == ["mean", "weight"]
    assert torch.equal(weights["mean"], torch.ones(2))
    assert type(weights["weight"]) is Parameter and not weights["weight"].requires_grad
    assert torch.equal(weights["weight"], torch.zeros(2))


def test_weights_come_without_the_prefix_of_a_wrapper(tmp_path):
    path = tmp_path / "wrapped.pth"
    torch.save({"module.a": torch.ones(1), "b.module.c": torch.zeros(1)}, path)
    assert read_weights(str(path)).keys() == {"a", "b.module.c"}


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_weights_are_found(key):
    weights = nn.DataParallel(nn.Linear(2, 2)).state_dict()
    checkpoint = weights if key is None else {key: weights, "epoch": 1}
    assert list(weights_of(checkpoint)) == ["weight", "bias"]


@pytest.mark.parametrize("checkpoint", [{"epoch": 1}, {"model": "resnet18"}, {}])
def test_what_has_no_weights_is_named(checkpoint):
    match = r"no weights under state_dict or model.*it has " + ", ".join(checkpoint)
    with pytest.raises(ValueError, match=match):
        weights_of(checkpoint)


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


def write_tar(path: Path) -> None:
    """A checkpoint of torch 0.1."""
    numbers = dict(storages=(0, []), tensors=(0,), pickle=({"x": 1},))
    with tarfile.open(path, "w") as archive:
        for name, parts in numbers.items():
            content = b"".join(pickle.dumps(part, protocol=2) for part in parts)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_script(path: Path) -> None:
    torch.jit.trace(torch.nn.ReLU(), torch.ones(1)).save(path)


def write_hidden_script(path: Path) -> None:
    """TorchScript that torch finds, and Python's zipfile does not."""
    write_script(path)
    content = bytearray(path.read_bytes())
    end = content.rfind(b"PK\5\6")
    content[end + 20 : end + 22] = (
        b"\4\0"  # length of a comment, which looks like an end
    )
    path.write_bytes(content + b"PK\5\6")
    assert not zipfile.is_zipfile(path)


@pytest.mark.filterwarnings(
    "ignore:.*jit.* is deprecated:DeprecationWarning",
    "ignore:.*looks like a TorchScript archive:UserWarning",
)
@pytest.mark.parametrize("make", [write_tar, write_script, write_hidden_script])
def test_archives_that_torch_reads_by_other_means_are_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "archive.pth"
    make(path)
    with pytest.raises(ValueError, match=r"archive\.pth .*archive of tar or TorchScr"):
        load_from_file(str(path))
    content = torch.load(path, weights_only=False)
    assert content == {"x": 1} or isinstance(content, torch.jit.ScriptModule)
