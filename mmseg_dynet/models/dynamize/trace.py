"""Which convolutions of a network feed which, seen in one pass without data.

The pass runs on the meta device, and marks each tensor with the convolutions that it
was computed from.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.ops import DyConv2d
from mmseg_dynet.ops.modules import copy_of

# What is done to logits before a network returns them: functions and methods by name.
AFTER_CLASSIFIER = {
    "interpolate", "pixel_shuffle", "pad", "softmax", "log_softmax", "sigmoid",
    "logsigmoid", "tanh", "__getitem__", "narrow", "chunk", "squeeze", "permute",
    "transpose", "view", "reshape", "flatten", "contiguous", "clone", "float", "half",
    "bfloat16", "double", "to", "type", "detach", "unsqueeze", "unflatten", "split",
    "unbind", "movedim", "swapaxes", "expand",
}  # fmt: skip


@dataclass
class Trace:
    """Which convolutions ran in one forward pass, by their names.

    Attributes:
        input_shape: Of the network's input, (B, C, H, W).
        runs: How often each has run, in the order they run.
        images: How many images each has convolved, counting windows that were batched.
        edges: Pairs of them, the second of which receives the output of the first.
        pooled: Those whose input is a 1x1 map; no part of ``edges``.
        stem: Those whose input comes from no convolution.
        classifier: Those that produce an output, as it is or resized or normalised.
        macs: Multiply-accumulates of the pass.
    """

    input_shape: tuple[int, ...]
    runs: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    edges: set[tuple[str, str]] = field(default_factory=set)
    pooled: set[str] = field(default_factory=set)
    stem: set[str] = field(default_factory=set)
    classifier: set[str] = field(default_factory=set)
    macs: int = 0


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
        elif func.__name__.endswith("_") or (kwargs or {}).get("inplace"):
            for tensor in _tensors(out):  # an activation, say, is not a classifier's
                tensor.source = None
        return out


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
        seen.runs[name] += 1
        seen.images[name] += x.shape[0]
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
