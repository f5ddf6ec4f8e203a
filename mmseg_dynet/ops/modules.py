"""Copy networks, and replace modules inside them."""

from collections.abc import Callable
from copy import deepcopy

from torch import Tensor, nn


def copy_of(model: nn.Module) -> nn.Module:
    """Copy a network, including one that ``copy.deepcopy`` refuses.

    Spectral norm and pruning keep the weight that they compute, which belongs to an
    autograd graph: it is copied without the graph.
    """
    values = [value for module in model.modules() for value in vars(module).values()]
    computed = [v for v in values if isinstance(v, Tensor) and not v.is_leaf]
    return deepcopy(model, {id(v): v.detach().clone() for v in computed})


def replace_modules(
    model: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    """Replace every module of a type in a network by ``make(module)``, and return it.

    One that is used in several places is made once.
    """
    if isinstance(model, kind):
        return make(model)
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, kind) and child not in made:
                made[child] = make(child)
            if child in made:
                setattr(parent, name, made[child])
    return model
