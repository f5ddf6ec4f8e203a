"""Make the convolutions of any built network dynamic, in place, and static again.

    model = dynamize(DDRNet(channels=32))
    print(model.dynamization)

A kernel becomes a bank of the same name, and a block gets a ``predictor``. Nothing else
about the network changes: no other class, no forward, no name of a weight.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from .convert import Dynamization, build_dynamized, dynamize, to_static

__all__ = ["Dynamization", "build_dynamized", "dynamize", "to_static"]
