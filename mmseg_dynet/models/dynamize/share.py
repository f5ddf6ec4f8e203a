"""Convolutions that look static from outside, and share the predictor of their block.

The block's own code calls each with a feature map alone, so its coefficients come by
another way: the first convolution of the block to run predicts for all of them, and
each of the others fetches its part when it runs. Wherever the first is computed anew,
so is the prediction: inside of a checkpoint, in the graph of an exporter.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

import threading
from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor, nn

from mmseg_dynet.ops import DyConv2d
from mmseg_dynet.ops.per_image import is_compiling


class DynamizedConv2d(DyConv2d):
    """A :class:`DyConv2d` in the place of an :class:`nn.Conv2d`.

    Args:
        conv: The convolution to take geometry, bias, dtype, device and mode from.
        num_kernels: K, the fixed kernels each output channel owns (the paper's g_t).
        from_static: Whether the bank is around the kernel of ``conv``, and around
            those of a static state dict that is loaded later. If not, it is initialised
            as DyConv2d does it, and static weights are refused.
        own_predictor: Whether the layer predicts from its own input.
        coefficients: As in :class:`DyConv2d`.
    """

    from_static = False

    def __init__(
        self,
        conv: nn.Conv2d,
        num_kernels: int,
        from_static: bool,
        own_predictor: bool,
        coefficients: Mapping | None,
    ) -> None:
        with torch.device(conv.weight.device):
            super().__init__(
                conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,
                conv.padding, conv.dilation, conv.groups, bias=False,
                num_kernels=num_kernels, own_predictor=own_predictor,
                coefficients=coefficients,
            )  # fmt: skip
        self.to(conv.weight.dtype).requires_grad_(conv.weight.requires_grad)
        self.bias = conv.bias
        self.train(conv.training)
        self.from_static = from_static
        if from_static:
            self.weight.data.copy_(self.bank_around(conv.weight.data))

    def init_weights(self) -> None:
        """Initialise as DyConv2d does, unless the bank holds a given kernel."""
        if not self.from_static:
            super().init_weights()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        kernel = state_dict.get(f"{prefix}weight")
        if kernel is not None and kernel.ndim == 4:
            if not self.from_static:
                raise ValueError(
                    f"{prefix}weight {tuple(kernel.shape)} is the kernel of a static "
                    "convolution, and this one is dynamic: set from_static=True to "
                    "start from static weights, or load none"
                )
            with torch.random.fork_rng(devices=[]):  # alike in all processes
                torch.default_generator.manual_seed(crc32(prefix.encode()))
                bank = self.bank_around(kernel.cpu()).to(kernel.device)
            state_dict[f"{prefix}weight"] = bank
        super()._load_from_state_dict(state_dict, prefix, *args)


class BlockPrediction:
    """What a block's predictor predicts, until each convolution has taken its part.

    Each thread has its own. Nothing is left once the last convolution has run.

    Args:
        owner: The module whose child ``predictor`` predicts.
    """

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.waiting: dict[int, tuple[bool, dict[int, Tensor]]] = {}

    def take(self, index: int, x: Tensor) -> Tensor:
        """The coefficients (B, O, K) of a convolution whose input is x (B, C, H, W).

        Raises:
            RuntimeError: The first convolution of the block has not run before, or has
                run without gradients where this one needs them.
        """
        thread = 0 if is_compiling() else threading.get_ident()
        if index == 0:
            self.waiting.pop(thread, None)  # of a forward pass that has failed
            parts = dict(enumerate(self.owner.predictor(x)))
            self.waiting[thread] = torch.is_grad_enabled(), parts
        with_grad, parts = self.waiting.get(thread, (False, {}))
        if index not in parts or torch.is_grad_enabled() > with_grad:
            raise RuntimeError(
                "the first convolution of a dynamic block, which predicts for the "
                "others, has not run before them in the same checkpoint: name smaller "
                "blocks by dynamize(blocks=...), or checkpoint whole blocks"
            )
        part = parts.pop(index)
        if not parts:
            del self.waiting[thread]
        return part

    def __getstate__(self) -> dict:
        """Copies and pickles hold no coefficients."""
        return {"owner": self.owner, "waiting": {}}


class Share(nn.Module):
    """A block's predictor, as its convolution ``index`` sees it; has no parameters."""

    def __init__(self, prediction: BlockPrediction, index: int) -> None:
        super().__init__()
        self.prediction = prediction
        self.index = index

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map the convolution's input (B, C, H, W) to its coefficients (B, O, K)."""
        return (self.prediction.take(self.index, x),)
