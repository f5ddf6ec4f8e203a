"""What hooks share."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrapped_model(runner: Runner) -> nn.Module:
    """The model itself, also in distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def tested_model(runner: Runner) -> nn.Module:
    """The model whose weights a test loads, also if it augments images."""
    model = unwrapped_model(runner)
    return model.module if isinstance(model, BaseTTAModel) else model
