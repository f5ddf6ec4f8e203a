"""Dy-shuffle: ShuffleNetV2 with dynamic right branches.

Of the readings of the paper's rule, this one reproduces all of its counts, in units of
2^20 and without the classifier: 88.4 MACs in convolutions for width 1.0 (88 in the
paper), 92.4 with kernel fusion and prediction (92), and 171.2 in convolutions for width
1.5 (171).
"""

from .shufflenet_v2 import ShuffleNetV2


class DyShuffleNetV2(ShuffleNetV2):
    """ShuffleNetV2 with dynamic convolutions (DyNet, section 3.2).

    A stride-1 unit splits its channels 3:1 instead of 1:1. The convolutions of the
    right branch are dynamic and served by one linear predictor, from the branch's
    input. The spatial one has groups of two channels, so it costs as much as the
    depthwise one of the static network. A right branch of 29 channels (stage 0 of width
    1.0) or 61 (of 2.0), which are primes, stays depthwise. The right branch of a
    stage's first unit, which does not split, is dynamic too and keeps its widths. All
    else is static. Channels and strides of the stages are ShuffleNetV2's.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t). None
            builds the static control of the same width, Fix-shuffle.
        coefficients: The arguments of :class:`mmseg_dynet.ops.CoefficientOptions`.
        **kwargs: Those of :class:`ShuffleNetV2`.

    Raises:
        ValueError: An option is out of its range.

    Example:
        >>> import torch
        >>> backbone = DyShuffleNetV2(strides=(2, 1, 1), dilations=(1, 2, 4))
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 116, 8, 8), (1, 232, 8, 8), (1, 464, 8, 8)]
    """

    split_parts = 4

    def __init__(
        self,
        widen_factor: float = 1.0,
        num_kernels: int | None = 6,
        coefficients: dict | None = None,
        **kwargs,
    ) -> None:
        self.dynamic = dict(num_kernels=num_kernels, coefficients=coefficients)
        super().__init__(widen_factor, **kwargs)
