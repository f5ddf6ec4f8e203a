"""Reuse fused kernels for the next frames of a video.

Consecutive frames look alike, and so do the coefficients that are predicted from them.
On a *key frame* a network under :class:`KernelReuse` predicts and fuses as always, and
keeps the fused kernels. On the frames up to the next key frame it convolves with these,
without prediction and fusion: such a frame costs as much as with the Fix- control, the
static network of the same width.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d


class KernelReuse(AbstractContextManager):
    """Let a network fuse its kernels on every n-th frame only; a context manager.

    A frame is a call of ``model``, directly or through its ``test_step``. All of its
    dynamic layers take part. The network is changed in place: until :meth:`remove` or
    the end of the ``with`` block, its dynamic layers and predictors run another
    ``forward``. Modules, weights and their names stay. If a key frame raises,
    the next frame is a key frame.

    A layer that runs several times per frame, as all do in slide inference, fuses each
    time on a key frame and keeps the last kernels: those of the last window.

    Fold, move and compile the network before: kept kernels do not follow changes, and
    in ``KernelReuse(torch.compile(model), every)`` the frame count stays outside the
    two graphs, one of key frames and one of the others.

    Args:
        model: The network, for inference: in eval mode and under ``torch.no_grad()``. A
            static one is not changed, so that the two compare.
        every: Frames that share their kernels, including the key frame. 1 is the plain
            network.

    Raises:
        ValueError: ``every`` is below 1, or the network is under a KernelReuse already.
            On a call: the network is in training mode, gradients are recorded, or the
            batch size differs from the key frame's. Images may change their size.

    Example:
        >>> with KernelReuse(model, every=5) as reuse:
        ...     for frame in video:
        ...         if is_cut(frame):
        ...             reuse.restart()
        ...         show(model(frame))
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        if every < 1:
            raise ValueError(
                f"every={every} must be at least 1, the number of frames that share "
                "their kernels; 1 fuses them for each frame"
            )
        kinds = CoefficientPredictor | DyConv2d
        self._layers = [m for m in model.modules() if isinstance(m, kinds)]
        if any("forward" in vars(layer) for layer in self._layers):
            raise ValueError(
                "the dynamic layers of this model have another forward than their "
                "class: remove() the KernelReuse that the model is under"
            )
        self.every = every
        self.restart()
        for layer in self._layers:
            dynamic = isinstance(layer, DyConv2d)
            keeper = _Kernels(layer) if dynamic else _Coefficients(layer, self)
            layer.forward = keeper.forward
        self._hooks = [
            model.register_forward_pre_hook(self._check),
            model.register_forward_hook(self._count),
        ]

    def restart(self) -> None:
        """Make the next frame a key frame: at a cut, or for a batch of another size."""
        self._age = 0
        self.is_key_frame = True

    def remove(self) -> None:
        """Restore the ``forward`` of the dynamic layers. Further calls do nothing."""
        while self._layers:
            del self._layers.pop().forward
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
        # A network is compiled for each value that it reads: here for two.
        self.is_key_frame = self._age == 0


def check_whole_frames(model: nn.Module) -> None:
    """Raise a ValueError if this is a segmentor that cuts frames into windows."""
    if getattr(model, "test_cfg", {}).get("mode") == "slide":
        raise ValueError(
            "with kernels kept, all windows of a frame would get those of the last, "
            "and this config tests in windows: add --cfg-options "
            "model.test_cfg.mode=whole"
        )


class _Coefficients:
    """Replaces the forward of a predictor: it predicts on key frames only."""

    def __init__(self, predictor: CoefficientPredictor, reuse: KernelReuse) -> None:
        self._predict = predictor.forward
        self._nothing = (None,) * len(predictor.out_channels)
        self._reuse = reuse

    def forward(self, x: Tensor) -> tuple[Tensor | None, ...]:
        return self._predict(x) if self._reuse.is_key_frame else self._nothing


class _Kernels:
    """Replaces the forward of a dynamic layer: it fuses if it gets coefficients."""

    def __init__(self, conv: DyConv2d) -> None:
        self._conv = conv
        self._kernels = ()  # (B, O, C/G, kH, kW); of no image yet

    def forward(self, x: Tensor, coeff: Tensor | None = None) -> Tensor:
        if coeff is None and self._conv.predictor is not None:
            (coeff,) = self._conv.predictor(x)
        if coeff is not None:
            self._kernels = self._conv.fuse(coeff)
        if len(x) != len(self._kernels):
            raise ValueError(
                f"{len(x)} images, but kernels are kept for {len(self._kernels)}: call "
                "restart() when the batch size changes, or use every=1"
            )
        return self._conv.convolve(x, self._kernels)
