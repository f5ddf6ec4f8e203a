"""Reads checkpoints from strangers: a pickle that builds data, and calls no code.

A pickle is a program. It names functions of any module, calls them with arguments of
its choice, and sets attributes and items of what they return. A short list of names is
not enough: an array can be made to point anywhere, a dict can be given a ``get`` of its
own, a storage can be longer than its record in the file. So nothing that a pickle names
is handed to it here:

- A name stands for an inert :class:`Name`, or for a data type of torch. Some have a
  function behind them, mostly of this module, which checks its arguments and builds
  what the original would have built.
- Attributes are set by a function for each type, items on dicts, lists and sets alone.
- An opcode that no checkpoint needs is unknown.
- Each storage is as long as its record, and each tensor stays within its storage.

torch's own ``weights_only`` is no substitute: early ones could be circumvented
(CVE-2025-32434, CVE-2026-24747), and before torch 2.6 it cannot be told of MMEngine's
log histories. One path serves every version of torch.
"""

import pickle
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch.nn import Parameter
from torch.serialization import StorageType

NUMBERS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
DTYPES = {code: np.dtype(code) for code in [*NUMBERS, "c8", "c16"]}
"""Types of arrays, by what NumPy writes for them: numbers, never objects."""

BASIC_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1
    BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES
    SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 TUPLE
    EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST DICT EMPTY_DICT EMPTY_SET FROZENSET
    GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL
"""
"""What pickle may do by its own means: numbers, text, tuples, new containers, names."""


class NotAllowed(pickle.UnpicklingError):
    """A pickle asks for what no checkpoint needs; the message says for what."""


class Name:
    """What a pickle gets for a name.

    Args:
        name: Module and name.
        call: What a call of it does; None if it cannot be called.
    """

    def __init__(self, name: str, call: Callable | None = None) -> None:
        self.name = name
        self.call = call


HISTORY_STATE = dict(_log_history=np.ndarray, _count_history=np.ndarray, max_length=int)
"""What MMEngine's log histories consist of, by type."""

ARRAY = Name("numpy.ndarray")
HISTORY = Name("mmengine.logging.history_buffer.HistoryBuffer")


def load(path: Path, map_location: object = None) -> object:
    """Read what ``torch.save`` wrote, of any version, and run no code from it.

    Args:
        path: A file.
        map_location: As in :func:`torch.load`.

    Raises:
        NotAllowed: The file asks for what no checkpoint needs.
        Exception: A damaged file can raise anything.
    """
    archive = _open_zip(path)
    is_script = archive is not None and "constants.pkl" in archive.get_all_records()
    if is_script or (archive is None and tarfile.is_tarfile(path)):
        # torch would unpack the one to the disk, and run what is in the other.
        raise pickle.UnpicklingError("it is an archive of tar or TorchScript")
    named: set[object] = set()
    unpickler = type("Unpickler", (Unpickler,), {"archive": archive, "named": named})
    parts = []

    def load_part(file: object, **options: object) -> object:
        parts.append(unpickler(file, **options).load())
        return parts[-1]

    content = torch.load(
        path,
        map_location=map_location,
        pickle_module=SimpleNamespace(
            __name__=__name__, Unpickler=unpickler, load=load_part
        ),
        weights_only=False,
        mmap=False,  # whatever torch was told to do by default
    )
    # Before torch 1.6 the pickle was followed by a list of the storages in the file. A
    # storage that is not among them was made, and never filled.
    if archive is None and not named <= {*parts[-1]}:
        raise pickle.UnpicklingError("a storage has no record")
    return content


def _open_zip(path: Path) -> torch._C.PyTorchFileReader | None:
    """Open what torch takes for a zip archive: by its first bytes alone.

    It is opened by torch's own reader. Another one, such as Python's, could find other
    records in the same file.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    return torch._C.PyTorchFileReader(str(path)) if is_zip else None


# What a pickle can call.


def _tensor(
    storage: torch.storage.TypedStorage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool = False,
    _hooks: object = None,
    metadata: object = None,
) -> torch.Tensor:
    """``torch._utils._rebuild_tensor`` and ``_rebuild_tensor_v2``, without hooks."""
    if metadata:
        raise NotAllowed("a tensor that is a conjugate or negative view")
    # torch would try to enlarge the storage.
    if _reach(offset, size, stride) * storage.dtype.itemsize > _num_bytes(storage):
        raise pickle.UnpicklingError("a tensor reaches out of its storage")
    tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    tensor.requires_grad = requires_grad
    return tensor


def _reach(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """How many elements of a storage there are up to the last one of a tensor."""
    numbers = (offset, *size, *stride)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor has a shape that is none")
    if 0 in size:
        return 0
    steps = zip(size, stride, strict=True)
    return offset + 1 + sum((count - 1) * step for count, step in steps)


def _num_bytes(storage: torch.storage.TypedStorage) -> int:
    return storage._untyped_storage.nbytes()  # its own nbytes() warns in torch 2.1


def _parameter(
    data: torch.Tensor, requires_grad: bool = True, _hooks: object = None
) -> Parameter:
    """``torch._utils._rebuild_parameter``, and ``Parameter`` itself of torch 0.1."""
    return Parameter(data, requires_grad)


def _dtype(code: str, *_flags: bool) -> np.dtype:
    """``numpy.dtype``, of numbers."""
    if type(code) is not str or code not in DTYPES:
        raise NotAllowed(f"numpy.dtype({code!r:.40})")
    return DTYPES[code]


def _array(kind: Name, *_placeholders: object) -> np.ndarray:
    """NumPy's ``_reconstruct``: an array whose state comes later."""
    if kind is not ARRAY:
        raise NotAllowed("an array of another class")
    return np.empty(0, np.int8)


def _scalar(dtype: np.dtype, data: bytes) -> np.generic:
    """NumPy's ``scalar``."""
    if not isinstance(dtype, np.dtype) or type(data) is not bytes:
        raise NotAllowed("a NumPy scalar that is no number")
    return np.frombuffer(data, dtype)[0]


def _getattr(owner: Name, name: str) -> Name:
    """``getattr``, which histories name their own statistics by. They are dropped."""
    if owner is not HISTORY or name not in ("min", "max", "mean", "current"):
        raise NotAllowed("builtins.getattr")
    return Name(f"{HISTORY.name}.{name}")


def _encode(text: str, encoding: str) -> bytes:
    """``_codecs.encode``: how old protocols write bytes, as text in Latin 1."""
    if type(text) is not str or encoding != "latin1":
        raise NotAllowed("_codecs.encode")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """``bytes``, which old protocols call for none."""
    return b""


def _ordered_dict(items: list = ()) -> OrderedDict:
    """``OrderedDict``, with the items that Python 2 gives it at once."""
    return OrderedDict((key, value) for key, value in items)


FUNCTIONS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": torch.Size,
    "torch.device": torch.device,
    "numpy.dtype": _dtype,
    # NumPy 1 writes the first name of each, NumPy 2 the second.
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "collections.OrderedDict": _ordered_dict,
    "_codecs.encode": _encode,
    "builtins.bytes": _no_bytes,
    "builtins.complex": complex,
    "builtins.getattr": _getattr,
    "builtins.set": set,
}
"""What a checkpoint may call, and what is called for it."""

NAMES = {
    **{name: Name(name, call) for name, call in FUNCTIONS.items()},
    **{name.name: name for name in (ARRAY, HISTORY)},
    **{str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)},
}
"""All that a checkpoint may name, and what it gets for it."""


# What a pickle can give a state to.


def _set_array(array: np.ndarray, state: tuple) -> None:
    _version, shape, dtype, is_fortran, data = state
    if not isinstance(dtype, np.dtype) or type(data) is not bytes:
        raise NotAllowed("an array that is not one of numbers")
    # __setstate__ trusts a shape, and fills one of too many lengths from the stack.
    shape = np.frombuffer(data, dtype).reshape(shape).shape
    array.__setstate__((1, shape, dtype, is_fortran, data))


def _set_dtype(dtype: np.dtype, state: tuple) -> None:
    """Make sure that there is nothing to set: no field, shape or other byte order."""
    _version, byte_order, *structure = state
    if byte_order not in ("<", "|") or structure[:3] != [None] * 3:
        raise NotAllowed(f"another numpy.dtype than {dtype}")


def _set_history(history: HistoryBuffer, state: dict) -> None:
    """Restore what was logged; statistics are those of the class, not of the file."""
    kinds = {name: type(value) for name, value in state.items()}
    kinds.pop("statistics_methods", None)
    if kinds != HISTORY_STATE:
        raise NotAllowed("a HistoryBuffer of other contents")
    for name in kinds:
        setattr(history, name, state[name])


def _set_metadata(weights: OrderedDict, state: dict) -> None:
    """Restore the versions of modules that ``Module.state_dict`` notes."""
    if [*state] != ["_metadata"] or type(state["_metadata"]) is not OrderedDict:
        raise NotAllowed("attributes of an OrderedDict")
    weights._metadata = state["_metadata"]


def _set_parameter(parameter: Parameter, state: tuple) -> None:
    """Restore what torch 0.1 notes of a parameter, without hooks."""
    requires_grad, _volatile, _hooks = state
    parameter.requires_grad = requires_grad


SETTERS = {
    np.ndarray: _set_array,
    **{type(dtype): _set_dtype for dtype in DTYPES.values()},
    HistoryBuffer: _set_history,
    OrderedDict: _set_metadata,
    Parameter: _set_parameter,
}
"""What restores the state of an object, by its exact type."""


class _Opcodes(dict):
    """What each opcode does; another one is an error that names it."""

    def __missing__(self, code: int) -> None:
        raise pickle.UnpicklingError(f"no checkpoint has the opcode {bytes([code])!r}")


class Unpickler(pickle._Unpickler):
    """Reads a pickle by what this module allows.

    It is derived from the one in Python, since that in C does not let a class replace
    what an opcode does. A checkpoint has some thousand opcodes: tensors are not among
    them.
    """

    archive: torch._C.PyTorchFileReader | None = None
    """The file, in case it is a zip archive, which keeps each storage in a record."""

    named: set[object]
    """The keys of the storages that the pickle asks for; all readers of a file add."""

    dispatch = _Opcodes(
        (getattr(pickle, name)[0], pickle._Unpickler.dispatch[getattr(pickle, name)[0]])
        for name in BASIC_OPCODES.split()
    )

    def find_class(self, module: str, name: str) -> object:
        """Find what a pickle names.

        Raises:
            NotAllowed: No checkpoint needs it.
        """
        if module == "__builtin__":  # as torch writes it: in the words of Python 2
            module = "builtins"
        try:
            return NAMES[f"{module}.{name}"]
        except KeyError:
            raise NotAllowed(f"{module}.{name}") from None

    def load_reduce(self) -> None:
        """Call a function."""
        arguments = self.stack.pop()
        function = self._top(Name, action="a call")
        if function.call is None:
            raise NotAllowed(f"a call of {function.name}")
        self.stack[-1] = function.call(*arguments)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        """Make a history, the only object that a checkpoint makes without a call."""
        arguments = self.stack.pop()
        if self._top(Name, action="an object") is not HISTORY or arguments != ():
            raise NotAllowed(f"an object of {self.stack[-1].name}")
        self.stack[-1] = HistoryBuffer()

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_build(self) -> None:
        """Give an object its state."""
        state = self.stack.pop()
        target = self._top(*SETTERS, action="a state")
        SETTERS[type(target)](target, state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        """Set an item of a dict."""
        value = self.stack.pop()
        key = self.stack.pop()
        self._top(dict, OrderedDict, action="an item")[key] = value

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Set items of a dict."""
        items = self.pop_mark()
        pairs = zip(items[::2], items[1::2], strict=True)
        self._top(dict, OrderedDict, action="items").update(pairs)

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_append(self) -> None:
        """Append to a list."""
        value = self.stack.pop()
        self._top(list, action="an element").append(value)

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        """Append several to a list."""
        values = self.pop_mark()
        self._top(list, action="elements").extend(values)

    dispatch[pickle.APPENDS[0]] = load_appends

    def load_additems(self) -> None:
        """Add to a set."""
        values = self.pop_mark()
        self._top(set, action="elements").update(values)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_binpersid(self) -> None:
        """Get a storage, which stands outside of the pickle."""
        where = self.stack.pop()
        if type(where) is not tuple or where[:1] != ("storage",):
            raise NotAllowed("what stands outside of its pickle and is no storage")
        self.named.add(where[2])
        if self.archive is not None:
            self._check_size(*where[1:])
        self.append(self.persistent_load(where))

    dispatch[pickle.BINPERSID[0]] = load_binpersid

    def _top(self, *types: type, action: str) -> object:
        """The object on top of the stack, which ``action`` is for."""
        top = self.stack[-1]
        if type(top) not in types:
            what = top.name if type(top) is Name else type(top).__name__
            raise NotAllowed(f"{action} of {what}")
        return top

    def _check_size(self, kind: StorageType, key: str, _: str, count: int) -> None:
        """Compare a storage with its record: torch before 2.10 reads beyond its end."""
        if type(kind) is not StorageType or type(count) is not int:
            raise NotAllowed("a storage of no type or size")
        size = count * torch._utils._element_size(kind.dtype)
        held = len(self.archive.get_record(f"data/{key}"))
        if size != held:
            raise pickle.UnpicklingError(f"a storage of {size} bytes has {held}")
