"""From a trained network to one that is fast to run."""

from .fold_bn import fold_bn

__all__ = ["fold_bn"]
