"""Checkpoint files: read without running code from them, found again after a crash.

A checkpoint is a pickle, and reading a pickle calls whatever functions it names.
MMEngine reads checkpoints by ``torch.load(weights_only=False)``, at once or after a
refusal. Here ``restricted_pickle`` reads them, which builds tensors,
arrays and log histories and calls nothing else. What MMEngine would execute or remove
at the word of a checkpoint is dropped.
"""

import re
import shlex
import sys
import zipfile
from collections.abc import Mapping
from copy import copy
from pathlib import Path

from mmengine.runner import CheckpointLoader
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from . import restricted_pickle

# Where a checkpoint keeps its weights: MMEngine's, and those of torchvision's scripts.
# A file of weights is its own table of them.
KEYS = ("state_dict", "model")
# Run by hand, by those who trust a file: SOURCE TARGET.
RESAVE = (
    "import sys, torch; "
    'c = torch.load(sys.argv[1], "cpu", weights_only=False); '
    'torch.save(c.get("state_dict", c), sys.argv[2])'
)


def use_safe_loading() -> None:
    """Let MMEngine read all checkpoint files of this process by this module.

    For programs, such as this project's tools: other code in the process may want to
    read checkpoints that hold more than this module allows.
    """
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_file, force=True)


def load_from_file(filename: str, map_location: object = None) -> dict:
    """Read a checkpoint file, running no code from it.

    Args:
        filename: Path of the file.
        map_location: As in :func:`torch.load`.

    Returns:
        What a training has saved, or a bare state dict.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is cut off or no checkpoint, or it asks for what no
            checkpoint of weights and log histories needs.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        content = restricted_pickle.load(path, map_location)
    except restricted_pickle.NotAllowed as error:
        raise ValueError(
            f"{path} asks for {error} when it is read, which can run code and is "
            "refused. If you trust whoever made the file, keep its weights alone, in a "
            f"file that asks for nothing:\n    {_resave(path)}"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        if is_whole(path) and isinstance(error, RuntimeError | OSError | MemoryError):
            raise  # of another cause, such as a full GPU
        raise ValueError(
            f"{path} is cut off, damaged or no checkpoint: {_first_line(error)}. Get "
            "it again, or go on from an older one"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}: a checkpoint is a dict of "
            "weights, or one with such a state_dict"
        )
    _disarm(content, path)
    return content


def read_weights(checkpoint: str) -> dict[str, Tensor]:
    """The weights of a checkpoint, without what a wrapper adds to their names.

    Args:
        checkpoint: Path of a file, which runs no code, or an address that MMEngine
            knows (``https://``, ``torchvision://``), which is trusted.
    """
    read = CheckpointLoader.load_checkpoint if "://" in checkpoint else load_from_file
    return weights_of(read(checkpoint, map_location="cpu"))


def weights_of(checkpoint: dict) -> dict[str, Tensor]:
    """The weights in a checkpoint, without what a wrapper adds to their names.

    Raises:
        ValueError: There are none.
    """
    table = next((checkpoint[key] for key in KEYS if key in checkpoint), checkpoint)
    weights = table if isinstance(table, Mapping) else {}
    if not weights or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(
            f"the checkpoint has no weights under {' or '.join(KEYS)}, nor is it a "
            f"table of weights itself: it has {', '.join(map(str, checkpoint))}. Save "
            "the state_dict() of the model"
        )
    weights = copy(weights)  # with the versions of modules that torch attaches
    consume_prefix_in_state_dict_if_present(weights, "module.")
    return weights


def short_name(checkpoint: str | Path) -> str:
    """What a checkpoint is called where there are several: "run/iter_80000"."""
    path = Path(checkpoint)
    return Path(path.parent.name, path.stem).as_posix()


def is_whole(path: Path) -> bool:
    """Whether ``path`` is a checkpoint as torch writes them, to its last byte.

    Reads it once, and compares the checksum of every tensor: 60 ms for 140 MB that are
    in memory. Files of torch before 1.6 are no such archives.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return archive.testzip() is None and any(
                name.endswith("/data.pkl") for name in names
            )
    except Exception:  # a damaged archive can raise anything
        return False


def find_newest(work_dir: str | Path) -> Path | None:
    """The checkpoint to go on from, whatever has happened to the training.

    It is the one that ``last_checkpoint`` names, in case it is whole, unless a later
    one was written after it; else the whole one that was written last.

    Args:
        work_dir: Folder of ``last_checkpoint`` and of ``iter_N.pth`` or
            ``epoch_N.pth``.

    Returns:
        Its path, or None in a folder without checkpoints.

    Raises:
        ValueError: There are checkpoints, but none is whole.
    """
    work_dir = Path(work_dir)
    found = sorted(
        (path for path in work_dir.glob("*.pth") if _number(path)),
        key=_written,
        reverse=True,
    )
    named = _named(work_dir)
    if named is not None and is_whole(named):
        later = [
            path
            for path in found
            if _number(path) > _number(named) and _written(path) > _written(named)
        ]
        candidates = [*later, named]
    else:
        candidates = found
    for path in candidates:
        if is_whole(path):
            return path
        print(f"{path} is not whole: looking for an older one", file=sys.stderr)
    if candidates:
        raise ValueError(
            f"none of the {len(candidates)} checkpoints in {work_dir} is whole: remove "
            "them to start anew, or name another with --cfg-options load_from=FILE"
        )
    return None


def _named(work_dir: Path) -> Path | None:
    """What ``last_checkpoint`` names, also if the folder was moved since."""
    try:
        name = (work_dir / "last_checkpoint").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not name:
        return None
    return next(
        (path for path in (Path(name), work_dir / Path(name).name) if path.is_file()),
        None,
    )


def _number(path: Path) -> int:
    """The number of iterations or epochs in a name, 0 if it has none."""
    match = re.fullmatch(r"(iter|epoch)_(\d+)", path.stem)
    return int(match[2]) if match else 0


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _disarm(content: dict, path: Path) -> None:
    """Drop what MMEngine would act on when it resumes from a checkpoint.

    Raises:
        ValueError: What ought to be notes on the training is something else.
    """
    if "meta" in content:
        if not isinstance(content["meta"], dict):
            raise ValueError(
                f"{path} holds a {type(content['meta']).__name__} as its meta: a "
                "checkpoint has a dict there, or none"
            )
        # Runner.resume would execute it as Python, to warn of another number of GPUs.
        content["meta"].pop("config", None)
    if isinstance(hub := content.get("message_hub"), dict):
        _forget_foreign_best(hub, path.parent)


def _forget_foreign_best(hub: dict, folder: Path) -> None:
    """Drop the names of best checkpoints, unless they are names of such in ``folder``.

    CheckpointHook removes what is named, file or folder, when it has a better one.
    """
    info = hub.get("runtime_info")
    if not isinstance(info, dict):
        return
    for name in [name for name in info if str(name).startswith("best_ckpt")]:
        best = Path(str(info[name]))
        beside = best.parent.resolve() == folder.resolve()
        if not (beside and best.name.startswith("best_")):
            del info[name]


def _resave(path: Path) -> str:
    target = path.with_name(f"{path.stem}_weights.pth")
    return shlex.join(["python", "-c", RESAVE, str(path), str(target)])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
