"""Reuse fused kernels for the next frames of a video.

Consecutive frames look alike, and so do the kernels that are fused for them. On a *key
frame* a network under :class:`KernelReuse` predicts and fuses as always, and keeps the
result. On the frames up to the next key frame it does neither, and costs as much as its
Fix- control, the static network of the same width.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d


class KernelReuse(AbstractContextManager):
    """Let a network fuse its kernels on every n-th frame only; a context manager.

    A frame is a call of ``model``, directly or through its ``test_step``. Until
    :meth:`remove` or the end of the ``with`` block, dynamic layers run another
    ``fuse``, and predictors another ``forward``; modules and names of weights stay. If
    a key frame raises, the next frame is a key frame. A layer that runs several times
    per frame, as all do in slide inference, keeps its last kernels. Feature fusion,
    which only ``force_implementation`` chooses here, is not kept.

    Fold, move and compile the network first: kept kernels do not reflect later changes.
    ``KernelReuse(torch.compile(model), every)`` counts frames outside its two graphs;
    call what torch.compile returns, since its ``test_step`` runs the eager network.

    Args:
        model: The network, for inference: in eval mode and under ``torch.no_grad()``. A
            static one is not changed, so that the two compare.
        every: Frames that share kernels, including the key frame; 1 disables reuse.

    Raises:
        ValueError: ``every`` is not a whole number above 0, or the network already has
            a KernelReuse. On a call: the network is in training mode, gradients are
            recorded, or the batch size differs from the key frame's.
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        if every < 1 or every % 1:
            raise ValueError(f"every={every} must be a whole number, at least 1")
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module  # whose test_step theirs calls
        self._replaced = [
            (module, name)
            for module in model.modules()
            for kind, name in ((CoefficientPredictor, "forward"), (DyConv2d, "fuse"))
            if isinstance(module, kind)
        ]
        if any(is_reusing(module) for module, _ in self._replaced):
            raise ValueError("remove() the KernelReuse that this model is under")
        self.every = every
        self.restart()
        for module, name in self._replaced:
            setattr(module, name, _Kept(getattr(module, name), self))
        self._hooks = [
            model.register_forward_pre_hook(self._check),
            model.register_forward_hook(self._count),
        ]

    def restart(self) -> None:
        """Make the next frame a key frame: at a cut, or for a batch of another size."""
        self._age = 0
        self.is_key_frame = True

    def remove(self) -> None:
        """Restore the methods of the dynamic layers. Further calls do nothing."""
        while self._replaced:
            delattr(*self._replaced.pop())
        for hook in self._hooks:
            hook.remove()

    def __exit__(self, *_: object) -> None:
        """Remove it from the network."""
        self.remove()

    def _check(self, model: nn.Module, *_: object) -> None:
        if model.training or torch.is_grad_enabled():
            raise ValueError(
                "kernels are kept at inference only: call model.eval() and run it "
                "under torch.no_grad(), or remove() the KernelReuse to train"
            )

    def _count(self, *_: object) -> None:
        self._age = (self._age + 1) % self.every
        # torch.compile makes a graph for each value that it reads: of this, for two.
        self.is_key_frame = self._age == 0


class _Kept:
    """Replaces a method: it computes on key frames only, and keeps the result."""

    def __init__(self, compute: Callable[[Tensor], object], reuse: KernelReuse) -> None:
        self._compute = compute
        self._reuse = reuse
        self._num_images, self._result = 0, None

    def __call__(self, x: Tensor) -> object:  # (B, ...)
        if self._reuse.is_key_frame:
            self._num_images, self._result = len(x), self._compute(x)
        elif len(x) != self._num_images:
            raise ValueError(
                f"{len(x)} images, but kernels are kept for {self._num_images}: call "
                "restart() when the batch size changes, or use every=1"
            )
        return self._result


def is_reusing(module: nn.Module) -> bool:
    """Whether a module's ``fuse`` or ``forward`` is that of a KernelReuse."""
    return any(isinstance(value, _Kept) for value in vars(module).values())
