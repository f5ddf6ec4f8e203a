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
        model: Any network before ``optimize_for_inference``, whose products are other
            operators; called with one tensor. A segmentor runs its backbone, neck
            and decode head, as at inference. A network without a child named backbone
            or neck counts as a backbone.
        input_shape: Shape of the input, (B, C, H, W).

    Returns:
        The counts, for all B images together.
    """
    model = copy_of(model).to("meta")
    model.eval()
    parts = [child for name, child in model.named_children() if name in BODY] or [model]
    # The counter keeps a tally by module of its own, but misses the modules that a host
    # runs by ``forward`` instead of calling them, as MMSegmentation runs its heads.
    counter = FlopCounterMode(display=False)
    counted, macs = Counter(), Counter()
    running = ["convolution"]  # what the modules that run are for, the innermost last

    def assign() -> None:
        """Assign what was counted since the last call to what is running."""
        new = Counter(counter.get_flop_counts().get("Global")) - counted
        place = "backbone" if "backbone" in running else "head"
        for operator, flops in new.items():
            # Of what a dynamic layer runs, only the fusion is a batched product.
            others = {"backbone"} if operator is FUSION else {"backbone", "fusion"}
            purpose = [label for label in running if label not in others][-1]
            macs[place, purpose] += flops // FLOPS_PER_MAC
        counted.update(new)

    def track(module: nn.Module, label: str) -> None:
        def enter(*_: object) -> None:
            assign()
            running.append(label)

        def leave(*_: object) -> None:
            assign()
            running.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)

    for part in parts:
        track(part, "backbone")
    for module in model.modules():
        if isinstance(module, DyConv2d):
            track(module, "fusion")
        elif isinstance(module, CoefficientPredictor):
            track(module, "prediction")
        elif type(module).__name__ in SQUEEZE_EXCITE:
            track(module, "squeeze_excite")
    # Forced, 1x1 convolutions are not matrix products, so each bmm is a fusion.
    with torch.no_grad(), force_implementation("grouped"), counter:
        dtype = next((p.dtype for p in model.parameters()), None)
        model(torch.empty(tuple(input_shape), dtype=dtype, device="meta"))
        assign()
    return Complexity(
        backbone=sum(n for (place, _), n in macs.items() if place == "backbone"),
        head=sum(n for (place, _), n in macs.items() if place == "head"),
        convolution=macs["backbone", "convolution"],
        squeeze_excite=macs["backbone", "squeeze_excite"],
        fusion=macs["backbone", "fusion"] + macs["head", "fusion"],
        prediction=macs["backbone", "prediction"] + macs["head", "prediction"],
        parameters=sum(p.numel() for p in model.parameters()),
    )
