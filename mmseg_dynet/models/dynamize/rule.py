"""Which convolutions of a network become dynamic: one rule, for any library's networks.

:func:`mmseg_dynet.dynamize` states the rule. To find the rows of convolutions, the
network is run once on the meta device, without data, and each tensor is marked with the
convolutions that it was computed from.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.ops import DyConv2d
from mmseg_dynet.ops.modules import copy_of

CONTAINERS = nn.Sequential | nn.ModuleList | nn.ModuleDict
# mmcv's Conv2d has a forward of its own, but only for torch before 1.5.
PLAIN_WRAPPERS = "mmcv.cnn.bricks.wrappers"
Patterns = str | Sequence[str] | None
# What is done to logits before a network returns them: functions and methods by name.
AFTER_CLASSIFIER = {
    "interpolate", "pixel_shuffle", "pad", "softmax", "log_softmax", "sigmoid",
    "logsigmoid", "tanh", "__getitem__", "narrow", "chunk", "squeeze", "permute",
    "transpose", "view", "reshape", "flatten", "contiguous", "clone", "float", "half",
    "bfloat16", "double", "to",
}  # fmt: skip


@dataclass
class Trace:
    """Which convolutions ran in one forward pass, by their names.

    Attributes:
        input_shape: Of the network's input, (B, C, H, W).
        runs: How often each has run, in the order they run.
        images: How many images each has convolved, or parts that were batched.
        edges: Pairs of them, the second of which receives the output of the first.
        pooled: Those whose input is a 1x1 map; no part of ``edges``.
        stem: Those whose input comes from no convolution.
        classifier: Those that produce an output, as it is or resized or normalised.
        macs: Multiply-accumulates of the pass.
    """

    input_shape: tuple[int, ...]
    runs: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    edges: set[tuple[str, str]] = field(default_factory=set)
    pooled: set[str] = field(default_factory=set)
    stem: set[str] = field(default_factory=set)
    classifier: set[str] = field(default_factory=set)
    macs: int = 0


def choose(
    model: nn.Module,
    include: Patterns,
    exclude: Patterns,
    blocks: Patterns,
    input_shape: Sequence[int] | None,
) -> tuple[dict[str, list[str]], list[str], dict[str, str], Trace]:
    """Choose what becomes dynamic; the network is left as it is.

    Returns the dynamic convolutions of each block, in the order they run, those that
    predict from their own input, why each other one stays static, and the pass that
    showed it. Arguments and errors are those of :func:`mmseg_dynet.dynamize`.
    """
    check_patterns(model, include=include, exclude=exclude, blocks=blocks)
    all_convs = convolutions(model)
    if not all_convs or model in all_convs.values():
        raise ValueError(
            f"{type(model).__name__} has no 2-D convolution, or is one: use DyConv2d"
        )
    channels = next(iter(all_convs.values())).in_channels
    try:
        seen = run_once(model, input_shape or (1, channels, 512, 1024))
    except ValueError:
        if input_shape:
            raise
        seen = run_once(model, (1, channels, 224, 224))
    rows = find_blocks(model, seen, blocks)
    reasons = reasons_to_stay(model, seen, rows, include, exclude)
    dynamic = [name for name, reason in reasons.items() if reason is None]
    static = {name: reason for name, reason in reasons.items() if reason is not None}
    if not dynamic and not any(isinstance(c, DyConv2d) for c in all_convs.values()):
        why = "; ".join(f"{name} {reason}" for name, reason in static.items())
        raise ValueError(
            f"no convolution of {type(model).__name__} would become dynamic: {why}. "
            "Name some by include=..., or modules that run a row by blocks=..."
        )
    rows = {block: [n for n in row if n in dynamic] for block, row in rows.items()}
    rows = {block: row for block, row in rows.items() if row}
    in_a_row = {name for row in rows.values() for name in row}
    alone = [name for name in dynamic if name not in in_a_row]
    return rows, alone, static, seen


class _Marks(TorchFunctionMode):
    """Mark each tensor with the convolutions that it was computed from.

    ``source`` is the convolution that produced it.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs = _tensors((args, kwargs))
        marks = set().union(*(getattr(t, "convolutions", ()) for t in inputs))
        if marks:
            for tensor in _tensors(args[0] if out is None else out):
                tensor.convolutions = marks
        if func.__name__ in AFTER_CLASSIFIER:
            for tensor in _tensors(out):
                tensor.source = getattr(inputs[0], "source", None)
        elif inputs and out is inputs[0] and _is_in_place(func, kwargs):
            out.source = None  # an activation, say, is not a classifier's output
        return out


def _is_in_place(func: Callable, kwargs: Mapping | None) -> bool:
    return func.__name__.endswith("_") or bool((kwargs or {}).get("inplace"))


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def run_once(model: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Run a network on one tensor, in eval mode on the meta device; leave it as it is.

    Raises:
        ValueError: The network does not run on it.
    """
    seen = Trace(tuple(input_shape))

    def before(name: str, args: tuple) -> None:
        x = _tensors(args)[0]
        seen.runs[name] = seen.runs.get(name, 0) + 1
        seen.images[name] = seen.images.get(name, 0) + x.shape[0]
        if x.shape[2:] == (1, 1):
            seen.pooled.add(name)
        elif sources := getattr(x, "convolutions", None):
            seen.edges.update((source, name) for source in sources)
        else:
            seen.stem.add(name)

    def after(name: str, out: Tensor | tuple) -> None:
        for tensor in _tensors(out):
            tensor.source = name
            if name not in seen.pooled:
                tensor.convolutions = {name}

    model = copy_of(model).to("meta")
    model.eval()
    for name, conv in convolutions(model).items():
        conv.register_forward_pre_hook(lambda _, args, n=name: before(n, args))
        conv.register_forward_hook(lambda _, __, out, n=name: after(n, out))
    dtype = next(model.parameters()).dtype
    x = torch.empty(seen.input_shape, dtype=dtype, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter, _Marks():
            results = model(x)
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} does not run on a tensor {seen.input_shape} "
            f"({type(error).__name__}: {error}): pass the input_shape it expects, "
            "or dynamize the part of it that takes one tensor, such as its backbone"
        ) from error
    sources = {getattr(tensor, "source", None) for tensor in _tensors(results)}
    seen.classifier.update(sources - {None})
    # By MMSegmentation's name, too: the output of an inner head may not leave it.
    seen.classifier.update(n for n in seen.runs if n.split(".")[-1] == "conv_seg")
    seen.macs = counter.get_total_flops() // 2
    return seen


def convolutions(model: nn.Module) -> dict[str, nn.Module]:
    """All 2-D convolutions of a network, static and dynamic, by their names."""
    kinds = nn.Conv2d | DyConv2d
    return {n: m for n, m in model.named_modules() if isinstance(m, kinds)}


def find_blocks(
    model: nn.Module, seen: Trace, patterns: Patterns = None
) -> dict[str, list[str]]:
    """Find the blocks of a network and the convolutions of their rows, as they run.

    If there are patterns, the blocks are the modules that they match. A match without a
    row, or with that of another, is a ValueError.
    """
    if patterns is not None:
        names = [name for name, _ in model.named_modules() if matches(patterns, name)]
        rows = {name: _row(name, seen) for name in names}
        if without := [name for name, row in rows.items() if not row]:
            raise ValueError(
                f"blocks: {without} run no two convolutions in a row: name others"
            )
        convs = [conv for row in rows.values() for conv in row]
        if shared := {conv for conv in convs if convs.count(conv) > 1}:
            raise ValueError(f"blocks: several hold the row of {min(shared)}: name one")
    else:
        homes: dict[str, str] = {}  # the smallest module around each conv and another
        for edge in seen.edges:
            home = _home(model, *edge)
            for conv in edge:
                if home is not None and len(home) >= len(homes.get(conv, "")):
                    homes[conv] = home
        rows = {home: _row(home, seen) for home in homes.values()}
        # Not those whose row reaches into a smaller block, nor those inside another
        # block, which are beside its row.
        smallest = {h: row for h, row in rows.items() if {homes[c] for c in row} == {h}}
        rows = {
            home: row
            for home, row in smallest.items()
            if not any(home != other and _inside(home, other) for other in smallest)
        }
    place = {name: i for i, name in enumerate(seen.runs)}
    return dict(sorted(rows.items(), key=lambda item: place[item[1][0]]))


def _home(model: nn.Module, first: str, second: str) -> str | None:
    """The smallest module that holds two convolutions, ignoring containers."""
    path = []
    for part, other in zip(first.split("."), second.split("."), strict=False):
        if part != other:
            break
        path.append(part)
    while isinstance(model.get_submodule(".".join(path)), CONTAINERS):
        if not path:
            return None
        path.pop()
    return ".".join(path)


def _row(home: str, seen: Trace) -> list[str]:
    """The longest row of convolutions inside a module, or rows, as they run."""
    inside = [name for name in seen.runs if _inside(name, home)]
    groups = {name: {name} for name in inside}
    for first, second in seen.edges:
        if first in groups and second in groups:
            merged = groups[first] | groups[second]
            groups.update(dict.fromkeys(merged, merged))
    longest = max((len(group) for group in groups.values()), default=0)
    return [name for name in inside if len(groups[name]) == longest > 1]


def _inside(name: str, module: str) -> bool:
    return not module or f"{name}.".startswith(f"{module}.")


def check_patterns(model: nn.Module, **options: Patterns) -> None:
    """Raise a ValueError if a pattern of an option matches the name of no module."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    for option, patterns in options.items():
        for pattern in [patterns] if isinstance(patterns, str) else patterns or ():
            if not any(re.fullmatch(pattern, name) for name in names):
                raise ValueError(
                    f"{option}: {pattern!r} matches no module: give a regular "
                    f"expression for a whole dotted name, such as {names[-1]!r}"
                )


def matches(patterns: Patterns, name: str, inside: bool = False) -> bool:
    """Whether a regular expression, or one of several, matches a module's whole name.

    With ``inside``, the name of a module around it does as well.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns or ()
    parts = name.split(".")
    outer = [".".join(parts[:i]) for i in range(1, len(parts))] if inside else []
    return any(re.fullmatch(p, n) for p in patterns for n in (name, *outer))


def reasons_to_stay(
    model: nn.Module, seen: Trace, blocks: Mapping[str, list[str]],
    include: Patterns, exclude: Patterns,
) -> dict[str, str | None]:  # fmt: skip
    """Why each static convolution stays static; None if it becomes dynamic."""
    in_a_row = {conv for row in blocks.values() for conv in row}
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for weight in module.parameters(recurse=False):
            owners.setdefault(id(weight), []).append(name)
    shared = {n for names in owners.values() if len(names) > 1 for n in names}

    def reason(name: str, conv: nn.Conv2d) -> str | None:
        if problem := why_not_exact(conv):
            return problem
        if name in shared or seen.runs.get(name, 0) > 1:
            return "shared between places"
        if matches(exclude, name, inside=True):
            return "excluded"
        if include is not None:
            return None if matches(include, name, inside=True) else "not included"
        for names, why in (
            (seen.pooled, "sees a pooled map"),
            (seen.stem, "sees the network's input"),
            (seen.classifier, "produces the network's output"),
            (in_a_row, None),
        ):
            if name in names:
                return why
        if name not in seen.runs:
            return "does not run"
        beside = any(_inside(name, block) for block in blocks)
        return "beside the row of its block" if beside else "outside of all blocks"

    static = {n: c for n, c in convolutions(model).items() if isinstance(c, nn.Conv2d)}
    return {name: reason(name, conv) for name, conv in static.items()}


def why_not_exact(conv: nn.Conv2d) -> str | None:
    """Why a DyConv2d cannot take the place of a convolution; None if it can."""
    kind = type(conv)
    if "weight" not in conv._parameters:
        return "computes its weight"
    own_forward = kind.forward is not nn.Conv2d.forward
    if (
        (own_forward and kind.__module__ != PLAIN_WRAPPERS)
        or kind._conv_forward is not nn.Conv2d._conv_forward
        or "forward" in vars(conv)
    ):
        return f"{kind.__name__} has a forward of its own"
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return f"padding={conv.padding!r}, padding_mode={conv.padding_mode!r}"
    hooks = (conv._forward_pre_hooks, conv._forward_hooks, conv._backward_hooks)
    return "has hooks" if any(hooks) else None
