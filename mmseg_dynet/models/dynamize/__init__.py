"""Make the convolutions of any built network dynamic, in place, and static again.

    model = dynamize(DDRNet(channels=32))
    print(model.dynamization)

A convolution becomes a bank of its own name; a block gets ``predictor``. Nothing else
about the network changes: no forward, no class, no other name of a weight.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmseg_dynet.ops import CoefficientPredictor, DyConv2d, fuse_kernels

from .rule import (
    CONTAINERS,
    Patterns,
    convolutions,
    find_blocks,
    reasons_to_stay,
    trace,
)
from .share import BlockPrediction, DynamizedConv2d, Share


@dataclass(frozen=True)
class Dynamization:
    """What :func:`dynamize` has done to a network; as a string, a table.

    Attributes:
        blocks: The dynamic convolutions of each block, in the order they run.
        alone: Dynamic convolutions that predict from their own input.
        static: Why each other convolution has stayed static.
        input_shape: Of the input that MACs are counted for, (B, C, H, W).
        macs: Multiply-accumulates before and after.
        parameters: Parameters before and after.
    """

    blocks: dict[str, list[str]]
    alone: list[str]
    static: dict[str, str]
    input_shape: tuple[int, ...]
    macs: tuple[int, int]
    parameters: tuple[int, int]

    def __str__(self) -> str:
        """A line for each block, and for each reason to stay static."""
        dynamic = sum(map(len, self.blocks.values())) + len(self.alone)
        reasons = {reason: [] for reason in self.static.values()}
        for name, reason in self.static.items():
            reasons[reason].append(name)
        rows = [(f"block {name}", convs) for name, convs in self.blocks.items()]
        rows += [("on their own", self.alone)] if self.alone else []
        rows += [(f"static: {reason}", names) for reason, names in reasons.items()]
        width = max(len(what) for what, _ in rows)
        lines = [f"{dynamic} of {dynamic + len(self.static)} convolutions are dynamic"]
        lines += [
            f"{what:{width}}  {len(names):3}  {' '.join(_shorten(what, names))}"
            for what, names in rows
        ]
        (macs, more_macs), (weights, more_weights) = self.macs, self.parameters
        lines += [
            f"GMACs of {self.input_shape}: {macs / 1e9:.2f} -> {more_macs / 1e9:.2f}",
            f"parameters: {weights / 1e6:.2f} M -> {more_weights / 1e6:.2f} M",
        ]
        return "\n".join(lines)


def _shorten(what: str, names: list[str]) -> list[str]:
    return [name.removeprefix(what.removeprefix("block ") + ".") for name in names]


def dynamize(
    model: nn.Module,
    num_kernels: int = 6,
    include: Patterns = None,
    exclude: Patterns = None,
    blocks: Patterns = None,
    reduction: int | None = 4,
    from_static: bool = False,
    input_shape: Sequence[int] | None = None,
) -> nn.Module:
    """Make convolutions of a network dynamic, in place, as the paper does in its own.

    A *block* is a smallest module that runs two or more convolutions in a row. They
    become dynamic and share one predictor, which sees what the first of them sees:
    the block's input. What runs beside the row (a projection shortcut), on a pooled
    1x1 map (squeeze-excite), on the network's input (the stem), gives its output (the
    classifier) or is outside of all blocks stays static. So does a convolution that
    no DyConv2d can replace exactly: with a forward, hooks or a parametrization of its
    own, other padding than by zeros, or shared between places.

    MACs grow by those of prediction and fusion only (see :class:`DyConv2d`), parameters
    about ``num_kernels`` times: to make a network cheaper, build it with fewer
    channels. A second call changes what is still static, if anything is to be.

    ``include``, ``exclude`` and ``blocks`` are one or several regular expressions for
    the whole dotted name of a module. ``include`` and ``exclude`` mean all that is
    inside of it, too.

    Args:
        model: Any network; it is run once, without data.
        num_kernels: K, the fixed kernels each output channel owns (the paper's g_t).
        include: If given, these and no others become dynamic, wherever they are. A
            convolution in no row of a block predicts from its own input.
        exclude: What is to stay static.
        blocks: Modules to take as blocks, in place of those found by the rule.
        reduction: A predictor of C input channels has a hidden layer of
            C / reduction, as in Dy-ResNet; None: it has none, as in Dy-mobile.
        from_static: Whether the network is to start out equal to the one given, with
            kernels free to part. It then takes static weights, too: a ``Pretrained``
            init_cfg of the model, or a state dict, fills the banks.
        input_shape: Of the model's input. None: (1, C, 512, 1024).

    Returns:
        ``model``, with the report as ``model.dynamization``.

    Raises:
        ValueError: No convolution becomes dynamic, the model does not run on one tensor
            of ``input_shape``, or ``blocks`` names none.
    """
    all_convs = convolutions(model)
    if not all_convs:
        raise ValueError(f"{type(model).__name__} has no 2-D convolution")
    if input_shape is None:
        channels = next(iter(all_convs.values())).in_channels
        input_shape = (1, channels, 512, 1024)
        try:
            seen = trace(model, input_shape)
        except ValueError:  # what was built to classify takes no other
            input_shape = (1, channels, 224, 224)
            seen = trace(model, input_shape)
    else:
        seen = trace(model, input_shape)
    rows = find_blocks(model, seen, blocks)
    reasons = reasons_to_stay(model, seen, rows, include, exclude)
    chosen = [name for name, reason in reasons.items() if reason is None]
    static = {name: reason for name, reason in reasons.items() if reason is not None}
    if not chosen:
        if any(isinstance(conv, DyConv2d) for conv in all_convs.values()):
            return model
        why = "; ".join(f"{name} {reason}" for name, reason in static.items())
        raise ValueError(
            f"no convolution of {type(model).__name__} would become dynamic: {why}. "
            "Name some by include=..., or modules that run a row by blocks=..."
        )

    parameters = _count(model)
    served = {
        block: dynamic
        for block, row in rows.items()
        if (dynamic := [name for name in row if name in chosen])
    }
    alone = [n for n in chosen if not any(n in row for row in served.values())]
    layers = {
        name: _replace(model, name, num_kernels, from_static, name in alone)
        for name in chosen
    }
    predictors = []
    for block, row in served.items():
        convs = [layers[name] for name in row]
        hidden = reduction and max(1, convs[0].in_channels // reduction)
        predictor = CoefficientPredictor(
            convs[0].in_channels, [c.out_channels for c in convs], num_kernels, hidden
        ).to(convs[0].weight)
        predictor.requires_grad_(any(conv.weight.requires_grad for conv in convs))
        prediction = BlockPrediction(predictor)
        for index, conv in enumerate(convs):
            conv.predictor = Share(prediction, index)
        owner = model.get_submodule(block)
        if isinstance(owner, CONTAINERS) or hasattr(owner, "predictor"):
            owner = convs[0].predictor  # a container would run it as one of its layers
        owner.predictor = predictor
        predictors.append(predictor)
    predictors += [layers[name].predictor for name in alone]
    if from_static:
        for predictor in predictors:
            predictor.predict_half()

    batch = input_shape[0]
    products = sum(_weights(predictor) for predictor in predictors)
    products += sum(layer.weight.numel() for layer in layers.values())
    model.dynamization = Dynamization(
        blocks=served,
        alone=alone,
        static=static,
        input_shape=tuple(input_shape),
        macs=(seen.macs, seen.macs + batch * products),
        parameters=(parameters, _count(model)),
    )
    return model


def _replace(
    model: nn.Module, name: str, num_kernels: int, from_static: bool, alone: bool
) -> DynamizedConv2d:
    parent, _, child = name.rpartition(".")
    conv = model.get_submodule(name)
    layer = DynamizedConv2d(conv, num_kernels, from_static, own_predictor=alone)
    setattr(model.get_submodule(parent), child, layer)
    return layer


def _weights(predictor: CoefficientPredictor) -> int:
    return sum(linear.weight.numel() for linear in predictor.children())


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def mean_coefficients(model: nn.Module, batches: Iterable) -> dict[str, Tensor]:
    """Average the coefficients of each dynamic layer over images, in eval mode.

    Args:
        model: A network that :func:`dynamize` has made; afterwards in eval mode.
        batches: A batch is a tensor, which the model is called with, or a dict as
            MMEngine's data loaders give it, for the model's ``test_step``.

    Returns:
        (O, K) for each layer that has run, by its name.
    """
    sums: dict[str, Tensor] = {}
    images: dict[str, int] = {}

    def add(name: str, coeff: Tensor) -> None:
        sums[name] = sums.get(name, 0) + coeff.double().sum(0)
        images[name] = images.get(name, 0) + len(coeff)

    hooks = [
        layer.predictor.register_forward_hook(lambda _, __, out, n=n: add(n, *out))
        for n, layer in _layers(model).items()
    ]
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model.test_step(batch) if isinstance(batch, dict) else model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / images[name] for name, total in sums.items()}


def to_static(model: nn.Module, coefficients: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a dynamized network whose kernels are fused once and for all.

    It is the plain network again, with the names of its weights, for any runtime. How
    much it loses is to be measured: test it beside the dynamic one.

    Args:
        model: A network that :func:`dynamize` has made. It is left as it is.
        coefficients: (O, K) of each dynamic layer, by its name: for one, what
            :func:`mean_coefficients` gives.

    Raises:
        ValueError: A layer is missing in ``coefficients``, or is given its coefficients
            by the code of its block, as in a Dy- network.
    """
    model = deepcopy(model)
    predictors = set()
    for name, layer in _layers(model).items():
        if name not in coefficients:
            raise ValueError(f"coefficients lack the dynamic layer {name}")
        share = layer.predictor
        predictors.add(share.prediction.predictor if isinstance(share, Share) else None)
        with torch.device("meta"):
            conv = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                layer.padding, layer.dilation, layer.groups, bias=False,
            )  # fmt: skip
        coeff = coefficients[name].to(layer.weight)[None]
        kernel = fuse_kernels(layer.weight, coeff)[0].detach().contiguous()
        conv.weight = nn.Parameter(kernel, layer.weight.requires_grad)
        conv.bias = layer.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, conv.train(layer.training))
    for module in model.modules():
        if getattr(module, "predictor", None) in predictors - {None}:
            del module.predictor
    return model


def _layers(model: nn.Module) -> dict[str, DyConv2d]:
    layers = {n: m for n, m in convolutions(model).items() if isinstance(m, DyConv2d)}
    for name, layer in layers.items():
        if layer.predictor is None:
            raise ValueError(
                f"{name} is given its coefficients by the code of its block: only what "
                "dynamize() or a conv_cfg has made dynamic can become static"
            )
    return layers


def build_dynamized(
    module: dict, pretrained: str | None = None, **options
) -> nn.Module:
    """Build a module of a registry and :func:`dynamize` it: ``type="Dynamized"``.

        backbone=dict(type="Dynamized", module=dict(type="DDRNet", channels=32))

    Args:
        module: The config of the module.
        pretrained: Weights, as EncoderDecoder passes them to its backbone; they take
            the place of the module's ``init_cfg``. Static ones need ``from_static``.
        **options: Those of :func:`dynamize`.
    """
    from mmengine.logging import print_log
    from mmseg.registry import MODELS

    if pretrained is not None:
        module = {**module, "init_cfg": dict(type="Pretrained", checkpoint=pretrained)}
    model = dynamize(MODELS.build(module), **options)
    for layer in _layers(model).values():
        # Not around the kernels of a module that has no weights yet.
        DyConv2d.init_weights(layer)
    print_log(str(model.dynamization), logger="current")
    return model
