"""Copy networks, including those that ``copy.deepcopy`` refuses."""

from copy import deepcopy

from torch import Tensor, nn


def copy_of(model: nn.Module) -> nn.Module:
    """Copy a network, without the graphs of weights that its pre-hooks have computed.

    Spectral norm and pruning leave such weights as attributes; torch copies no graph.
    """
    values = [value for module in model.modules() for value in vars(module).values()]
    computed = [v for v in values if isinstance(v, Tensor) and not v.is_leaf]
    return deepcopy(model, {id(v): v.detach().clone() for v in computed})
