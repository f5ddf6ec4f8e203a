"""Which convolutions of a network become dynamic: one rule, for any library's networks.

:func:`mmseg_dynet.dynamize` states the rule.
"""

import re
from collections.abc import Mapping, Sequence

from torch import nn

from mmseg_dynet.ops import DyConv2d

from .trace import Trace, convolutions, run_once

CONTAINERS = nn.Sequential | nn.ModuleList | nn.ModuleDict
# mmcv's Conv2d has a forward of its own, but only for torch before 1.5.
PLAIN_WRAPPERS = "mmcv.cnn.bricks.wrappers"
Patterns = str | Sequence[str] | None


def choose_convolutions(
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


def _listed(patterns: Patterns) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else patterns or ()


def check_patterns(model: nn.Module, **options: Patterns) -> None:
    """Raise a ValueError if a pattern of an option matches the name of no module."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    for option, patterns in options.items():
        for pattern in _listed(patterns):
            try:
                found, problem = any(re.fullmatch(pattern, n) for n in names), ""
            except re.error as error:
                found, problem = False, f" ({error})"
            if not found:
                raise ValueError(
                    f"{option}: {pattern!r} matches no module{problem}: give a regular "
                    f"expression for a whole dotted name, such as {names[-1]!r}"
                )


def matches(patterns: Patterns, name: str, inside: bool = False) -> bool:
    """Whether a regular expression, or one of several, matches a module's whole name.

    With ``inside``, the name of a module around it does as well.
    """
    parts = name.split(".")
    outer = [".".join(parts[:i]) for i in range(1, len(parts))] if inside else []
    return any(re.fullmatch(p, n) for p in _listed(patterns) for n in (name, *outer))


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
        if name in shared or seen.runs[name] > 1:
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
