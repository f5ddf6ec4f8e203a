"""Count the multiply-accumulates of a network, by place and by purpose.

The counts come from running the network on PyTorch's meta device (shapes, no data)
under :class:`torch.utils.flop_counter.FlopCounterMode`. It sees convolutions and matrix
products of every kind. Kernel fusion is written as a batched matrix product, so it is
seen too; a product and a sum would have cost nothing on paper. Normalisation,
activations, pooling and resizing are not counted, as is the field's custom.

Unit: one MAC is one multiplication with its addition. "FLOPs" in DyNet, as in most
papers on efficient networks, are MACs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d, force_implementation
from mmseg_dynet.ops.copying import copy_of

# Children of a segmentor or classifier that are not its head.
BODY = ("backbone", "neck")
# Squeeze-excite layers by the names that their classes have in MMSegmentation and
# mmpretrain, in torchvision, and in timm: this module imports none of them.
SQUEEZE_EXCITE = ("SELayer", "SqueezeExcitation", "SqueezeExcite")
# PyTorch counts the multiplication and the addition.
FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class Complexity:
    """MACs of one forward pass by place and by purpose, and the parameters.

    Attributes:
        backbone: Backbone and neck.
        head: Everything else that runs at inference.
        convolution: What backbone and neck spend on none of the following.
        squeeze_excite: Squeeze-excite layers of backbone and neck, which some papers
            do not count.
        fusion: Fusing banks into dynamic kernels, in backbone and head.
        prediction: Predicting coefficients, in backbone and head.
        parameters: Parameters of the whole network, auxiliary heads included.
    """

    backbone: int
    head: int
    convolution: int
    squeeze_excite: int
    fusion: int
    prediction: int
    parameters: int

    @property
    def macs(self) -> int:
        """All MACs of the forward pass, those of backbone and head."""
        return self.backbone + self.head

    def as_dict(self) -> dict[str, int]:
        """The counts and their sum, for a JSON file."""
        return asdict(self) | {"macs": self.macs}


def count_complexity(model: nn.Module, input_shape: Sequence[int]) -> Complexity:
    """Count the MACs of ``model(x)`` in eval mode, and its parameters.

    The model is left as it is: a copy is moved to the meta device.

    Args:
        model: Any network; called with one tensor. A segmentor runs its backbone, neck
            and decode head, as at inference. A network without a child named backbone
            or neck counts as a backbone.
        input_shape: Shape of the input, (B, C, H, W).

    Returns:
        The MACs, those of the whole batch.
    """
    model = copy_of(model).to("meta")
    model.eval()
    counter = FlopCounterMode(display=False)
    parts = [child for name, child in model.named_children() if name in BODY] or [model]
    body, squeeze_excite, fusion, prediction = {}, {}, {}, {}
    for module in parts:
        body[module] = _Meter(counter, module)
        for child in module.modules():
            if type(child).__name__ in SQUEEZE_EXCITE:
                squeeze_excite[child] = _Meter(counter, child)
    for module in model.modules():
        if isinstance(module, DyConv2d):
            fusion[module] = _Meter(counter, module, torch.ops.aten.bmm)
        elif isinstance(module, CoefficientPredictor):
            prediction[module] = _Meter(counter, module)
    # Then the matrix products of a dynamic layer are those of its fusion.
    with torch.no_grad(), force_implementation("grouped"), counter:
        dtype = next((p.dtype for p in model.parameters()), None)
        model(torch.empty(tuple(input_shape), dtype=dtype, device="meta"))

    backbone = _sum(body)
    all_squeeze_excite = _sum_without(fusion | prediction, squeeze_excite)
    static = _sum_without(fusion | prediction, body)
    return Complexity(
        backbone=backbone,
        head=counter.get_total_flops() // FLOPS_PER_MAC - backbone,
        convolution=static - all_squeeze_excite,
        squeeze_excite=all_squeeze_excite,
        fusion=_sum(fusion),
        prediction=_sum(prediction),
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


def _sum(meters: Mapping[nn.Module, _Meter]) -> int:
    return sum(meter.macs for meter in meters.values())


def _sum_without(
    others: Mapping[nn.Module, _Meter], meters: Mapping[nn.Module, _Meter]
) -> int:
    """Sum what modules spend, without what other modules inside them do."""
    inside = {module for outer in meters for module in outer.modules()}
    return _sum(meters) - _sum({m: meter for m, meter in others.items() if m in inside})
