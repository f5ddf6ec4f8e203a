"""A network with the kernels of a dynamic one, but no prediction."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmseg_dynet.ops import CoefficientPredictor


@HOOKS.register_module()
class ConstantCoefficientsHook(Hook):
    """Let predictors learn their last bias alone: the same coefficients for all images.

    The kernels, their mixing and its cost in training are those of the dynamic network.
    After training it is static.
    """

    def before_train(self, runner: Runner) -> None:
        """Set the matrix before the coefficients to zero, for good."""
        for module in runner.model.modules():
            if isinstance(module, CoefficientPredictor):
                module.logits.weight.data.zero_()
                module.logits.weight.requires_grad_(False)
