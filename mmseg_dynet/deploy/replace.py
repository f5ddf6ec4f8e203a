"""Replace modules of a network in place."""

from collections.abc import Callable

from torch import nn


def replace_modules(
    model: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]
) -> None:
    """Put ``make(module)`` in the place of every module of a kind inside ``model``."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
