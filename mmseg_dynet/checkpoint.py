"""Checkpoint files: read without running code from them, found again after a crash.

A checkpoint is a pickle, and reading a pickle calls whatever functions it names.
MMEngine reads checkpoints by ``torch.load(weights_only=False)``, at once or after a
refusal. Here nothing is called but what rebuilds tensors, arrays and log histories.
"""

import re
import sys
import tarfile
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine.runner import CheckpointLoader
from packaging.version import Version
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from . import restricted_pickle

# The weights_only of earlier ones cannot be told what else to allow, and can be
# circumvented (CVE-2025-32434).
SAFE_TORCH = Version("2.6")


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
        ValueError: The file is cut off or no checkpoint, or it asks for a function
            that no checkpoint of weights and log histories needs.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        content = _load(path, map_location)
    except Exception as error:  # a damaged pickle can raise anything
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} asks for {refused[1]} when it is read, which can run code and "
                "is refused. If you trust whoever made the file, keep its weights "
                f"alone, in a file that asks for nothing:\n    {_resave(path)}"
            ) from error
        if is_whole(path) and not isinstance(error, UnpicklingError):
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
    if isinstance(content.get("meta"), dict):
        # MMEngine's Runner.resume would execute it as Python, to warn of another
        # number of GPUs.
        content["meta"].pop("config", None)
    return content


def read_weights(checkpoint: str) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, without what a wrapper adds to their names.

    Args:
        checkpoint: Path of a file, which runs no code, or an address that MMEngine
            knows (``https://``, ``torchvision://``), which is trusted.
    """
    read = CheckpointLoader.load_checkpoint if "://" in checkpoint else load_from_file
    content = read(checkpoint, map_location="cpu")
    weights = content.get("state_dict", content)
    consume_prefix_in_state_dict_if_present(weights, "module.")
    return weights


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


def _load(path: Path, map_location: object) -> object:
    # torch would unpack the one by another pickle module, and run the other.
    if tarfile.is_tarfile(path) or _is_torchscript(path):
        raise UnpicklingError("it is an archive of tar or TorchScript")
    if Version(torch.__version__) < SAFE_TORCH:
        return torch.load(
            path,
            map_location=map_location,
            pickle_module=restricted_pickle,
            weights_only=False,
        )
    with torch.serialization.safe_globals(restricted_pickle.beyond_torch()):
        return torch.load(path, map_location=map_location, weights_only=True)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _resave(path: Path) -> str:
    target = path.with_name(f"{path.stem}_weights.pth")
    return (
        'python -c "import torch; '
        f"c = torch.load({str(path)!r}, 'cpu', weights_only=False); "
        f"torch.save(c.get('state_dict', c), {str(target)!r})\""
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
