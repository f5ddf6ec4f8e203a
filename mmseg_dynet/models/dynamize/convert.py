"""Make the convolutions of a network dynamic, and dynamic ones static again.

Shape legend: see :mod:`mmseg_dynet.ops.functional`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmseg_dynet.models.validation import pretrained_init_cfg
from mmseg_dynet.ops import (
    CoefficientPredictor,
    DyConv2d,
    fuse_kernels,
    shared_predictor,
)
from mmseg_dynet.ops.modules import copy_of, replace_modules

from .rule import CONTAINERS, Patterns, choose_convolutions
from .share import BlockPrediction, DynamizedConv2d, Share
from .trace import convolutions


@dataclass(frozen=True)
class Dynamization:
    """What a call of :func:`dynamize` has done to a network; ``str()`` tabulates it.

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
        """A line per block, and per reason to stay static."""
        rows = {
            f"block {block}": [name.removeprefix(f"{block}.") for name in names]
            for block, names in self.blocks.items()
        }
        if self.alone:
            rows["on their own"] = self.alone
        dynamic = sum(map(len, rows.values()))
        for name, reason in self.static.items():
            rows.setdefault(f"static: {reason}", []).append(name)
        width = max(map(len, rows), default=0)
        macs, weights = (
            " -> ".join(f"{n / unit:.2f}" for n in pair)
            for pair, unit in ((self.macs, 1e9), (self.parameters, 1e6))
        )
        return "\n".join(
            [
                f"{dynamic} of {dynamic + len(self.static)} convolutions made dynamic",
                *(f"{k:{width}} {len(v):4}  {' '.join(v)}" for k, v in rows.items()),
                f"GMACs of {self.input_shape}: {macs}",
                f"parameters, 10^6: {weights}",
            ]
        )


def dynamize(
    model: nn.Module,
    num_kernels: int = 6,
    include: Patterns = None,
    exclude: Patterns = None,
    blocks: Patterns = None,
    reduction: int | None = 4,
    from_static: bool = False,
    input_shape: Sequence[int] | None = None,
    coefficients: Mapping | None = None,
) -> nn.Module:
    """Make convolutions of a network dynamic, in place, as the paper does in its own.

    A *block* is a smallest module that runs two or more convolutions in a row. The
    convolutions of its longest row, or of several rows if equally long, become dynamic.
    They share one predictor, which sees the input of the first of them: the block's
    input. Others stay static: those beside the row (a projection shortcut), on a pooled
    1x1 map (squeeze-excite), on the network's input (the stem), at its output, even if
    that is then resized or normalised (the classifier; if it is a sum of several, name
    them in ``exclude``), and outside of all blocks. So do those that no DyConv2d can
    replace exactly: with a forward, hooks, padding or a parametrization of their own,
    or used in several places.

    MACs grow by prediction and fusion alone (see :class:`DyConv2d`), parameters about
    ``num_kernels``-fold: to make a network cheaper, build it with fewer channels. A
    second call changes only what is still static. On several GPUs, train with
    DistributedDataParallel: the replicas of nn.DataParallel would all call the
    predictors of the first GPU.

    ``include``, ``exclude`` and ``blocks`` are one or several regular expressions for
    the whole dotted name of a module. The first two also apply to everything inside.

    Args:
        model: Any network; it is run once, with its hooks but without data.
        num_kernels: K, the fixed kernels per output channel (the paper's g_t).
        include: If given, these and no others become dynamic, wherever they are. A
            convolution in no row of a block predicts from its own input.
        exclude: What stays static.
        blocks: Modules to take as blocks, in place of those found by the rule.
        reduction: A predictor of C input channels has a hidden layer of
            C / reduction, as in Dy-ResNet; None: it has none, as in Dy-mobile.
        from_static: Whether to start with the outputs of the network given, by kernels
            that can then diverge. It then takes static weights, too: a
            ``Pretrained`` init_cfg of the model fills the banks, and so does
            ``load_state_dict(strict=False)``, which leaves predictors as they are.
        input_shape: Of the model's input. None: (1, C, 512, 1024), or (1, C, 224, 224)
            if the model takes no other.
        coefficients: The arguments of :class:`mmseg_dynet.ops.CoefficientOptions`.

    Returns:
        ``model``, with the report as ``model.dynamization``.

    Raises:
        ValueError: No convolution is dynamic in the end, the model does not run on one
            tensor of ``input_shape``, a pattern matches nothing, or reduction < 1.
    """
    if reduction is not None and reduction < 1:
        raise ValueError(f"reduction={reduction} must be at least 1, or None")
    rows, alone, static, seen = choose_convolutions(
        model, include, exclude, blocks, input_shape
    )
    parameters = _count(model)
    layers = {
        name: DynamizedConv2d(
            conv, num_kernels, from_static, name in alone, coefficients
        )
        for name, conv in convolutions(model).items()
        if isinstance(conv, nn.Conv2d) and name not in static
    }
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    predictors = {name: layers[name].predictor for name in alone}
    for block, row in rows.items():
        convs = [layers[name] for name in row]
        predictor = _share_predictor(model.get_submodule(block), convs, reduction)
        predictors[row[0]] = predictor
    if from_static:
        for predictor in predictors.values():
            predictor.predict_start()

    # Each weight of a bank or a predictor is multiplied once per image.
    weights = [*layers.items()]
    weights += [(name, m) for name, p in predictors.items() for m in p.children()]
    products = sum(seen.images[n] * m.weight.numel() for n, m in weights)
    model.dynamization = Dynamization(
        blocks=rows,
        alone=alone,
        static=static,
        input_shape=seen.input_shape,
        macs=(seen.macs, seen.macs + products),
        parameters=(parameters, _count(model)),
    )
    return model


def _share_predictor(
    block: nn.Module, convs: list[DynamizedConv2d], reduction: int | None
) -> CoefficientPredictor:
    """Give a block one predictor for its dynamic convolutions, and return it."""
    hidden = reduction and max(1, convs[0].in_channels // reduction)
    predictor = shared_predictor(convs, hidden).to(convs[0].weight)
    predictor.requires_grad_(any(conv.weight.requires_grad for conv in convs))
    predictor.train(convs[0].training)
    prediction = BlockPrediction(block)
    for index, conv in enumerate(convs):
        conv.predictor = Share(prediction, index)
    if isinstance(block, CONTAINERS) or hasattr(block, "predictor"):
        # A container would run it as one of its layers.
        prediction.owner = convs[0].predictor
    prediction.owner.predictor = predictor
    return predictor


def to_static(model: nn.Module, coefficients: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a dynamized network whose kernels are fused once and for all.

    It is the plain network again, with the names of its weights, for any runtime.
    Compare its accuracy with the dynamic network's.

    Args:
        model: What :func:`dynamize` has made. It is left as it is.
        coefficients: (O, K) of each dynamic layer, by its name, such as the
            ``CoefficientRecorder.means()`` over a data set.

    Raises:
        ValueError: A layer is missing in ``coefficients``, or gets its coefficients
            from the code of its block, as in a Dy- network.
    """
    model = copy_of(model)
    vars(model).pop("dynamization", None)
    owners = [m.prediction.owner for m in model.modules() if isinstance(m, Share)]
    static: dict[nn.Module, nn.Module] = {}
    for name, layer in convolutions(model).items():
        if not isinstance(layer, DyConv2d):
            continue
        if layer.predictor is None:
            raise ValueError(
                f"{name} gets its coefficients from the code of its block: only what "
                "dynamize() or a conv_cfg has made dynamic can become static"
            )
        if name not in coefficients:
            raise ValueError(
                f"coefficients lack the dynamic layer {name}: record images that run "
                "it, or give its coefficients (O, K)"
            )
        coeff = coefficients[name].to(layer.weight)[None]
        kernel = fuse_kernels(layer.weight.detach(), coeff)[0].contiguous()
        with torch.device("meta"):
            conv = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                layer.padding, layer.dilation, layer.groups, bias=False,
            )  # fmt: skip
        conv.weight = nn.Parameter(kernel, layer.weight.requires_grad)
        conv.bias = layer.bias
        static[layer] = conv.train(layer.training)
    replace_modules(model, DyConv2d, static.__getitem__)
    for owner in dict.fromkeys(owners):
        del owner.predictor
    return model


def build_dynamized(
    module: dict,
    pretrained: str | None = None,
    data_preprocessor: dict | None = None,
    **options,
) -> nn.Module:
    """Build a module of a registry and :func:`dynamize` it: ``type="Dynamized"``.

        backbone=dict(type="Dynamized", module=dict(type="DDRNet", channels=32))

    ``options`` are those of :func:`dynamize`, and ``init_cfg``, which replaces that of
    the module; None starts it from scratch. EncoderDecoder passes its ``pretrained``.
    Static weights need ``from_static``. A segmentor as the module takes the
    ``data_preprocessor`` that a Runner gives.

    Raises:
        ValueError: There are two checkpoints; or as :func:`dynamize`.
    """
    from mmengine.logging import MMLogger
    from mmseg.registry import MODELS

    if "init_cfg" in options:
        module = {**module, "init_cfg": options.pop("init_cfg")}
    if pretrained is not None:
        init_cfg = pretrained_init_cfg(pretrained, module.get("init_cfg"))
        module = {**module, "init_cfg": init_cfg}
    if data_preprocessor is not None:
        module = {"data_preprocessor": data_preprocessor, **module}
    model = dynamize(MODELS.build(module), **options)
    if MMLogger._instance_dict:  # a run has begun; tools that only count stay silent
        MMLogger.get_current_instance().info(str(model.dynamization))
    return model


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
