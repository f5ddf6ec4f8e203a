"""Count the multiply-accumulates of a network, split by what they are spent on.

The counts come from running the network on PyTorch's meta device (shapes, no data)
under :class:`torch.utils.flop_counter.FlopCounterMode`. It sees convolutions and matrix
products of every kind. Kernel fusion is written as a batched matrix product, so it is
seen too; a product and a sum would have cost nothing on paper. Normalisation,
activations, pooling and resizing are not counted, as is the field's custom.

Unit: one MAC is one multiplication with its addition. "FLOPs" in DyNet, as in most
papers on efficient networks, are MACs.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from mmseg.models.utils import SELayer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d, force_implementation

# Children of a segmentor or classifier that are no head.
BODY = ("backbone", "neck")
# PyTorch counts the multiplication and the addition.
FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class Complexity:
    """MACs of one forward pass by purpose, and the parameters.

    Attributes:
        convolution: Convolutions of backbone and neck, and all that is none of the
            others.
        squeeze_excite: Squeeze-excite layers of backbone and neck, apart because some
            papers do not count them.
        fusion: Fusing banks into dynamic kernels, anywhere in the network.
        prediction: Predicting coefficients, anywhere in the network.
        head: Everything else in the head that runs at inference.
        parameters: Parameters of the whole network, auxiliary heads included.
    """

    convolution: int
    squeeze_excite: int
    fusion: int
    prediction: int
    head: int
    parameters: int

    @property
    def macs(self) -> int:
        """All MACs of the forward pass."""
        parts = (self.convolution, self.squeeze_excite, self.fusion, self.prediction)
        return sum(parts) + self.head

    def as_dict(self) -> dict[str, int]:
        """The parts and their sum, for a JSON file."""
        return asdict(self) | {"macs": self.macs}


def count_complexity(model: nn.Module, input_shape: Sequence[int]) -> Complexity:
    """Count the MACs of ``model(x)`` in eval mode, and its parameters.

    The model is left as it is: a copy is moved to the meta device.

    Args:
        model: Any network; called with one tensor. A segmentor runs its backbone, neck
            and decode head, as at inference. Without a child named backbone, the whole
            network counts as one.
        input_shape: Shape of the input, (B, C, H, W).

    Returns:
        The MACs by purpose. They are those of the whole batch.
    """
    model = deepcopy(model).to("meta")
    model.eval()
    counter = FlopCounterMode(display=False)
    body = [child for name, child in model.named_children() if name in BODY] or [model]
    body_meters = {child: _Meter(counter, child) for child in body}
    squeeze_excite = {
        module: _Meter(counter, module)
        for child in body
        for module in child.modules()
        if isinstance(module, SELayer)
    }
    fusion = {
        module: _Meter(counter, module, torch.ops.aten.bmm)
        for module in model.modules()
        if isinstance(module, DyConv2d)
    }
    prediction = {
        module: _Meter(counter, module)
        for module in model.modules()
        if isinstance(module, CoefficientPredictor)
    }
    # Then the matrix products of a dynamic layer are those of its fusion.
    with torch.no_grad(), force_implementation("grouped"), counter:
        model(torch.empty(tuple(input_shape), device="meta"))

    all_fusion = sum(meter.macs for meter in fusion.values())
    all_prediction = sum(meter.macs for meter in prediction.values())
    dynamic = fusion | prediction
    all_squeeze_excite = _macs_apart_from(dynamic, squeeze_excite)
    convolution = _macs_apart_from(dynamic, body_meters) - all_squeeze_excite
    total = counter.get_total_flops() // FLOPS_PER_MAC
    in_no_head = convolution + all_squeeze_excite + all_fusion + all_prediction
    return Complexity(
        convolution=convolution,
        squeeze_excite=all_squeeze_excite,
        fusion=all_fusion,
        prediction=all_prediction,
        head=total - in_no_head,
        parameters=sum(p.numel() for p in model.parameters()),
    )


class _Meter:
    """The MACs that a module spends, on one operator or on all, while a counter runs.

    The counter keeps a tally by module of its own, but misses the modules that a host
    runs by ``forward`` instead of calling them, as MMSegmentation runs its heads.
    """

    def __init__(
        self,
        counter: FlopCounterMode,
        module: nn.Module,
        operator: object | None = None,
    ) -> None:
        self._counter = counter
        self._operator = operator
        self._flops = 0
        module.register_forward_pre_hook(lambda *_: self._add(-1))
        module.register_forward_hook(lambda *_: self._add(1))

    @property
    def macs(self) -> int:
        return self._flops // FLOPS_PER_MAC

    def _add(self, sign: int) -> None:
        by_operator = self._counter.get_flop_counts().get("Global", {})
        if self._operator is None:
            self._flops += sign * sum(by_operator.values())
        else:
            self._flops += sign * by_operator.get(self._operator, 0)


def _macs_apart_from(
    others: Mapping[nn.Module, _Meter], meters: Mapping[nn.Module, _Meter]
) -> int:
    """Sum what modules have spent, but for what others inside of them have."""
    inside = {module for outer in meters for module in outer.modules()}
    return sum(meter.macs for meter in meters.values()) - sum(
        meter.macs for module, meter in others.items() if module in inside
    )
