"""Which implementation computes a dynamic convolution: one rule, one override.

    grouped         fuse kernels; one convolution with B * G groups, which for one image
                    is the plain convolution
    loop            fuse kernels; one convolution an image
    matmul          fuse kernels; one matrix product an image. For 1x1 kernels without
                    groups; forced, it leaves all others to the rule
    feature_fusion  fuse feature maps, as the paper trains: never chosen, only forced

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

try:
    from torch.compiler import is_compiling
except ImportError:  # torch before 2.3
    from torch._dynamo import is_compiling

IMPLEMENTATIONS = ("grouped", "loop", "matmul", "feature_fusion")

# Up to this many input values, oneDNN's fixed cost a call exceeds what its faster
# convolution saves over a matrix product.
_SMALL = 2**18

_forced: str | None = None


@contextmanager
def force_implementation(name: str) -> Iterator[None]:
    """Let every dynamic convolution inside the block use one implementation.

    It holds for the whole process, threads included. Where blocks are recomputed in the
    backward pass (``with_cp``), that pass belongs into the block, too.

    Args:
        name: One of :data:`IMPLEMENTATIONS`.

    Raises:
        ValueError: There is no such implementation.
    """
    global _forced
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"no implementation {name!r}: choose one of {', '.join(IMPLEMENTATIONS)}"
        )
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def fuses_feature_maps() -> bool:
    """Whether feature maps are to be fused instead of kernels."""
    return _forced == "feature_fusion"


def choose(x: Tensor, kernels: Tensor, groups: int) -> str:
    """Name the implementation for images (B, C, H, W) and fused kernels.

    The rule follows measurements on CPUs, forward and backward, of
    ``tools/analysis_tools/benchmark_implementations.py``. On GPUs it has not been
    measured: there it asks for few kernel launches.

    Args:
        x: Images, (B, C, H, W).
        kernels: One kernel an image, (B, O, C/G, kH, kW).
        groups: G.

    Returns:
        "grouped", "loop" or "matmul".
    """
    pointwise = groups == 1 and kernels.shape[3:] == (1, 1)
    if _forced in ("grouped", "loop") or (_forced == "matmul" and pointwise):
        return _forced
    one = x.shape[0] < 2  # not len(), which fixes the size in a graph
    if one and not pointwise:
        return "grouped"
    # A graph that is compiled, exported or traced may hold for other sizes than x's.
    graph = is_compiling() or torch.jit.is_tracing()
    on_cpu = x.device.type == "cpu" and not graph
    if one:
        return "matmul" if on_cpu and 0 < x.numel() <= _SMALL else "grouped"
    if pointwise:
        return "matmul"
    # Batch and channels make one dimension in "grouped": in channels_last, by a copy.
    if on_cpu and x.is_contiguous(memory_format=torch.channels_last):
        return "loop"
    return "grouped"
