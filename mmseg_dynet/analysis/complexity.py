"""Count the multiply-accumulates of a network, by place and by purpose.

The counts come from running the network on PyTorch's meta device (shapes, no data)
under :class:`torch.utils.flop_counter.FlopCounterMode`. It sees convolutions and matrix
products of every kind. Kernel fusion is written as a batched matrix product, so the
counter sees it; an elementwise product and a sum would be counted as free.
Normalisation, activations, pooling and resizing are not counted, as is the custom.

Unit: one MAC is one multiplication with its addition. "FLOPs" in DyNet, as in most
papers on efficient networks, are MACs.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d, force_implementation
from mmseg_dynet.ops.modules import copy_of

# Children of a segmentor or classifier that are not its head.
BODY = ("backbone", "neck")
# Squeeze-excite layers by the names that their classes have in MMSegmentation and
# mmpretrain, in torchvision, and in timm: this module imports none of them.
SQUEEZE_EXCITE = ("SELayer", "SqueezeExcitation", "SqueezeExcite")
# PyTorch counts the multiplication and the addition.
FLOPS_PER_MAC = 2
FUSION = torch.ops.aten.bmm


@dataclass(frozen=True)
class Complexity:
    """MACs of one forward pass by place and by purpose, and the parameters.

    Attributes:
        backbone: Backbone and neck.
        head: Everything else that runs at inference.
        convolution: MACs of backbone and neck other than those below.
        squeeze_excite: Their squeeze-excite layers, which some papers do not count.
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

    The model is left as it is: a copy runs on the meta device, with its hooks.

    Args:
        model: Any network that takes one tensor. A segmentor runs its backbone, neck
            and decode head, as at inference. A network without a child named backbone
            or neck counts as a backbone. Count before ``optimize_for_inference``, which
            replaces products by operators that are not counted.
        input_shape: Shape of the input, (B, C, H, W).

    Returns:
        The counts, for all B images together.
    """
    model = copy_of(model).to("meta")
    model.eval()
    parts = [child for name, child in model.named_children() if name in BODY] or [model]
    tally = _Tally()
    for part in parts:
        tally.follow(part, "backbone")
    for module in model.modules():
        if isinstance(module, DyConv2d):
            tally.follow(module, "dynamic layer")
        elif isinstance(module, CoefficientPredictor):
            tally.follow(module, "prediction")
        elif type(module).__name__ in SQUEEZE_EXCITE:
            tally.follow(module, "squeeze_excite")
    # Forced, 1x1 convolutions are not matrix products, so each bmm is a fusion.
    with torch.no_grad(), force_implementation("grouped"), tally.counter:
        dtype = next((p.dtype for p in model.parameters()), None)
        model(torch.empty(tuple(input_shape), dtype=dtype, device="meta"))
        tally.assign()
    macs = tally.macs
    return Complexity(
        backbone=sum(n for (place, _), n in macs.items() if place == "backbone"),
        head=sum(n for (place, _), n in macs.items() if place == "head"),
        convolution=macs["backbone", "convolution"],
        squeeze_excite=macs["backbone", "squeeze_excite"],
        fusion=macs["backbone", "fusion"] + macs["head", "fusion"],
        prediction=macs["backbone", "prediction"] + macs["head", "prediction"],
        parameters=sum(p.numel() for p in model.parameters()),
    )


class _Tally:
    """MACs by place and purpose, as they are counted.

    PyTorch's counter keeps a tally by module of its own, but misses the modules that a
    host runs by ``forward`` instead of calling them, as MMSegmentation runs its heads.
    """

    def __init__(self) -> None:
        self.counter = FlopCounterMode(display=False)
        self.macs: Counter[tuple[str, str]] = Counter()
        self._assigned: Counter = Counter()  # FLOPs by operator
        self._running: list[str] = []  # labels of the modules, the innermost last

    def follow(self, module: nn.Module, label: str) -> None:
        """Assign what a module runs to its label."""

        def enter(*_: object) -> None:
            self.assign()
            self._running.append(label)

        def leave(*_: object) -> None:
            self.assign()
            self._running.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)

    def assign(self) -> None:
        """Assign what was counted since the last call to the modules that run."""
        new = Counter(self.counter.get_flop_counts().get("Global")) - self._assigned
        place = "backbone" if "backbone" in self._running else "head"
        for operator, flops in new.items():
            self.macs[place, self._purpose(operator)] += flops // FLOPS_PER_MAC
        self._assigned.update(new)

    def _purpose(self, operator: object) -> str:
        for label in reversed(self._running):
            # Of what a dynamic layer runs, only the fusion is a batched product.
            if label == "dynamic layer" and operator is FUSION:
                return "fusion"
            if label in ("prediction", "squeeze_excite"):
                return label
        return "convolution"
