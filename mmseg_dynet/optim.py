"""Mixed precision on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn


class BFloat16OptimWrapper(OptimWrapper):
    """Train in bfloat16 where that is safe, as torch.autocast decides.

    MMEngine's AmpOptimWrapper scales the loss, which float16 needs and bfloat16, with
    the range of float32, does not; and it refuses CPUs, of which those with AVX512-BF16
    or AMX train about twice as fast so. Parameters, gradients and the optimizer stay
    float32. Arguments are those of OptimWrapper.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Compute what is inside the block in mixed precision."""
        device_type = torch.device(get_device()).type
        with super().optim_context(model), torch.autocast(device_type, torch.bfloat16):
            yield
