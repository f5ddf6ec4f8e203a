"""Read checkpoints without running code from them; find the newest undamaged one.

A checkpoint is a pickle, which can call any function when it is read. From torch 2.6
on, ``torch.load(weights_only=True)`` prevents that, given a list of the types that
MMEngine saves. Older torch cannot do this, so checkpoints are trusted.
"""

import functools
import logging
import pickle
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from torch import Tensor

# Methods in checkpoints, which a pickle stores as calls of getattr: statistics of a
# history, and curves of a schedule.
METHODS = {
    HistoryBuffer: ("min", "max", "current", "mean"),
    OneCycleParamScheduler: ("_annealing_cos", "_annealing_linear"),
}


def use_safe_loading() -> None:
    """Make MMEngine read all checkpoint files of this process with this module.

    Call it in a program, as the tools do, not in a library: other code in the process
    may need checkpoints that hold more. Without it, OneDL's loader runs the code of a
    checkpoint that it cannot read safely.
    """
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_file, force=True)


def load_from_file(filename: str | Path, map_location: object = None) -> dict:
    """Read a checkpoint file of tensors, numbers, text and log histories.

    ``map_location`` is that of :func:`torch.load`.

    Returns:
        What a training has saved, or a bare state dict.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is cut off or not a checkpoint, or it holds objects of
            other types, which could run code.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        content = _load(path, map_location)
    except Exception as error:  # a damaged pickle can raise anything
        refused = re.search(r"(?i)unsupported (global|class)|getattr\(", str(error))
        if not refused and not is_whole(path):
            raise ValueError(
                f"{path} is cut off, damaged or not a checkpoint: get it again"
            ) from error
        if isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"{path} holds more than weights and log histories, and reading it "
                "could run code. If you trust its source, save its weights alone: "
                f'torch.save(torch.load("{path}", weights_only=False)["state_dict"], '
                'NEW_FILE), or ["model"]'
            ) from error
        raise
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}: a checkpoint is a dict of "
            "weights, or a dict with a state_dict"
        )
    if isinstance(content.get("meta"), dict):
        content["meta"].pop("config", None)  # Runner.resume would execute it
    return content


def _load(path: Path, map_location: object) -> object:
    if torch.__version__ >= (2, 6):
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location, weights_only=True)
    message = "torch before 2.6 runs the code in a checkpoint: read trusted ones only"
    print_log(message, logger="current", level=logging.WARNING)
    return torch.load(path, map_location)


@functools.cache
def _safe_globals() -> list:
    """What log histories, schedules, metadata and NumPy's numbers consist of."""
    rebuild, scalar = np.zeros(0).__reduce__()[0], np.float64().__reduce__()[0]
    plain = np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?US"
    return [
        *METHODS,
        (_method, "builtins.getattr"),
        ConfigDict,
        bytes,  # of an empty array
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in plain},
        *(  # NumPy 1 writes the first module, NumPy 2 the second.
            (function, f"numpy.{module}.multiarray.{name}")
            for module in ("core", "_core")
            for function, name in ((rebuild, "_reconstruct"), (scalar, "scalar"))
        ),
    ]


def _method(owner: type, name: str) -> object:
    """One of METHODS, in place of ``getattr``."""
    if not isinstance(owner, type) or name not in METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r})")
    return getattr(owner, name)


def read_checkpoint(source: str | Path) -> dict:
    """Read a checkpoint from a file, or from an address that MMEngine knows.

    Addresses (``https://``, ``torchvision://``) are trusted.
    """
    load = CheckpointLoader.load_checkpoint if "://" in str(source) else load_from_file
    return load(source, map_location="cpu")


def weights_of(checkpoint: dict) -> dict[str, Tensor]:
    """The weights in a checkpoint, without the prefix that a wrapper adds to names.

    They are its ``state_dict`` (MMEngine), its ``model`` (torchvision), or its tensors.

    Raises:
        ValueError: There are none.
    """
    content = checkpoint.get("state_dict", checkpoint.get("model", checkpoint))
    weights = {
        name.removeprefix("module."): value
        for name, value in (content.items() if isinstance(content, dict) else ())
        if isinstance(value, Tensor)
    }
    if not weights:
        raise ValueError(
            "the checkpoint has no weights under state_dict or model, and is not a "
            f"state dict itself: it has {', '.join(map(str, checkpoint))}"
        )
    return weights


def is_whole(path: str | Path) -> bool:
    """Whether a file is a checkpoint of torch 1.6 or later, and all checksums agree."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_checkpoint = any(n.endswith("/data.pkl") for n in archive.namelist())
            return is_checkpoint and archive.testzip() is None
    except Exception:  # a damaged archive can raise anything
        return False


def find_newest(work_dir: str | Path) -> str | None:
    """The checkpoint to resume from: the one saved last that is not damaged.

    The one that the file ``last_checkpoint`` names comes first, then ``iter_N.pth`` and
    ``epoch_N.pth``. Returns its path or remote address, or None if there are none.

    Raises:
        ValueError: There are checkpoints, but all of them are damaged.
        FileNotFoundError: There are none, but ``last_checkpoint`` names one.
    """
    work_dir = Path(work_dir)
    pointer = work_dir / "last_checkpoint"
    named = pointer.read_text("utf-8", "replace").strip() if pointer.is_file() else ""
    if "://" in named:
        return named
    numbers = {
        path: int(match[2])
        for path in work_dir.glob("*.pth")
        if (match := re.fullmatch(r"(iter|epoch)_(\d+)", path.stem))
    }
    by_age = sorted(numbers, key=lambda p: (p.stat().st_mtime_ns, numbers[p]))
    # The folder may have been moved since its checkpoint was named.
    pointed = [work_dir / Path(named).name, Path(named)] if named else []
    candidates = [*dict.fromkeys([*pointed, *reversed(by_age)])]
    candidates = [path for path in candidates if path.exists()]
    for path in candidates:
        if path.is_dir() or is_whole(path):  # DeepSpeed's are folders
            return str(path)
        print(f"{path} is damaged: looking for an earlier one", file=sys.stderr)
    if candidates:
        raise ValueError(
            f"all checkpoints in {work_dir} are damaged: remove them to train again, "
            "or name one (train.py: --cfg-options load_from=FILE; compare.py: "
            "--checkpoints FILE)"
        )
    if named:
        raise FileNotFoundError(
            f"{pointer} names {named}, which is not there: make it available, or "
            f"remove {pointer} to start again"
        )
    return None
