"""A pickle module for ``torch.load`` that finds nothing but what a checkpoint needs.

Reading a pickle calls the functions that it names. MMEngine's checkpoints name tensors,
arrays and log histories; here no other name is found, so no other code is run. This is
what Python recommends for data from others (its documentation of ``pickle``,
"Restricting Globals"). It stands in where torch's own ``weights_only`` cannot be told
what else to allow, which takes torch 2.6.
"""

import pickle
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from packaging.version import Version

REBUILD = (
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_parameter",
    "_rebuild_qtensor",
)
"""Functions of ``torch._utils`` that put a tensor together."""

CONTAINERS = (OrderedDict, defaultdict, deque, set, bytearray, complex, torch.Size)


def beyond_torch() -> list[type | tuple[Callable, str]]:
    """What a checkpoint of MMEngine names, beyond what torch allows by itself.

    Returns:
        Classes, and functions with the names that they go by, as
        ``torch.serialization.safe_globals`` takes them.
    """
    allowed = [
        HistoryBuffer,
        (_history_method, "builtins.getattr"),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
    ]
    core = np.core if Version(np.__version__) < Version("2") else np._core
    # A file written with NumPy 1 names the first module, with NumPy 2 the second.
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [
            (core.multiarray._reconstruct, f"{module}._reconstruct"),
            (core.multiarray.scalar, f"{module}.scalar"),
        ]
    return allowed


class Unpickler(pickle.Unpickler):
    """Reads a pickle; a name that no checkpoint needs is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """Find what a pickle names.

        Raises:
            UnpicklingError: No checkpoint needs it.
        """
        if module == "__builtin__":  # as torch writes it: in the words of Python 2
            module = "builtins"
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"GLOBAL {module}.{name} is not allowed"
            ) from None


def load(file: BinaryIO, **options: Any) -> Any:
    """Read one pickle of a file that is open, as ``pickle.load`` does."""
    return Unpickler(file, **options).load()


def _history_method(owner: object, name: str) -> Callable:
    """What ``getattr`` is called for in a history: its own statistics, as functions.

    The real one would hand out any attribute of any allowed class.
    """
    if owner is HistoryBuffer and name in ("min", "max", "mean", "current"):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f"GLOBAL getattr was called with {owner!r}, {name!r}")


def _by_name() -> dict[str, Any]:
    named = {}
    classes = [*CONTAINERS, torch.device]
    for entry in beyond_torch():
        if isinstance(entry, type):
            classes.append(entry)
        else:
            function, name = entry
            named[name] = function
    named |= {f"{cls.__module__}.{cls.__qualname__}": cls for cls in classes}
    named |= {f"torch._utils.{name}": getattr(torch._utils, name) for name in REBUILD}
    named |= {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
    named["_codecs.encode"] = _encode
    return named


def _encode(text: str, encoding: str) -> bytes:
    """How bytes are written where pickle has no bytes: as text in Latin 1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"GLOBAL _codecs.encode to {encoding!r}")
    return text.encode("latin1")


_ALLOWED = _by_name()
