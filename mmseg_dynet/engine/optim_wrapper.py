"""Mixed precision on any device."""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn
from torch.optim import Optimizer


def computes_bfloat16(device_type: str) -> bool:
    """Whether the machine's devices of a type compute in bfloat16.

    Others emulate it, far slower than they compute in float32. Before torch 2.6, AVX512
    is assumed to be enough, wrongly on Skylake and Cascade Lake. True for types other
    than "cpu" and "cuda".
    """
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)  # Ampere
    if device_type != "cpu":
        return True
    mkldnn = torch.backends.mkldnn.is_available()
    if not mkldnn or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # On x86, oneDNN asks for AVX512 only.
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return not is_x86 or None in checks or any(check() for check in checks)


class BFloat16OptimWrapper(OptimWrapper):
    """Train in bfloat16 where torch.autocast considers it safe, on any device.

    MMEngine's AmpOptimWrapper refuses CPUs, although those with AVX512-BF16 or AMX
    train faster in bfloat16. It also scales the loss: float16 needs that, bfloat16,
    which has the range of float32, does not. Parameters, gradients and the state of the
    optimizer stay in float32. On a device that does not compute in bfloat16, training
    is in float32, and a warning is logged.

    Arguments are those of OptimWrapper, and ``emulate``: bfloat16 even there, slowly.
    """

    def __init__(
        self, optimizer: Optimizer, *, emulate: bool = False, **kwargs
    ) -> None:
        super().__init__(optimizer, **kwargs)
        # That of the model, which need not be the best of the machine.
        weights = (w for group in optimizer.param_groups for w in group["params"])
        self.device_type = next(weights).device.type
        self.enabled = emulate or computes_bfloat16(self.device_type)
        if not self.enabled:
            device = "CPU" if self.device_type == "cpu" else "GPU"
            print_log(
                f"This {device} does not compute in bfloat16: training in float32. "
                "(optim_wrapper.emulate=True emulates bfloat16, slowly.)",
                logger="current",
                level=logging.WARNING,
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Compute what is inside the block in mixed precision."""
        autocast = torch.autocast(self.device_type, torch.bfloat16, self.enabled)
        with super().optim_context(model), autocast:
            yield
