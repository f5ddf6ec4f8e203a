"""Train in another memory format."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .unwrap import unwrapped_model


class ChannelsLastHook(Hook):
    """Lay out the model's weights in channels_last; feature maps follow them.

    It is the format that convolutions on CPUs, and in half precision on GPUs, compute
    in. The values are the same up to rounding, and checkpoints load in either format.
    """

    def before_run(self, runner: Runner) -> None:
        """Convert before anything runs: a run may begin with a validation."""
        unwrapped_model(runner).to(memory_format=torch.channels_last)
