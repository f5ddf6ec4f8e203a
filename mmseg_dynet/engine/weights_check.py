"""Check that a checkpoint fills a module: MMEngine loads only the weights that fit."""

import re
from collections.abc import Iterator, Mapping

from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit
from mmengine.runner import CheckpointLoader
from mmseg.models.backbones import MSCAN, MixVisionTransformer
from torch import Tensor, nn

from mmseg_dynet.models.dynamize.share import DynamizedConv2d
from mmseg_dynet.ops import DyConv2d

# Never required: counters that MMEngine does not miss, and what mmcv's ConvAWS computes
# while it loads.
NOT_MISSED = ("num_batches_tracked", ".weight_gamma", ".weight_beta")
Shapes = dict[str, tuple[int, ...]]
# The init_weights that load a checkpoint as it is; others may convert it first.
LOADING = [c.init_weights for c in (BaseModule, MSCAN, MixVisionTransformer)]


def check_pretrained(model: nn.Module) -> None:
    """Check the checkpoints that are named in ``init_cfg``, as :func:`check_weights`.

    Other ``init_weights`` may convert them (Swin) or need a part (PIDNet): no check.
    """
    for name, module in model.named_modules():
        if getattr(type(module), "init_weights", None) not in LOADING:
            continue
        init_cfgs = module.init_cfg or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
            if init_cfg["type"] not in ("Pretrained", PretrainedInit):
                continue
            path, prefix = init_cfg["checkpoint"], init_cfg.get("prefix") or ""
            content = CheckpointLoader.load_checkpoint(path, map_location="cpu")
            if "state_dict" not in content and "model" in content:
                raise ValueError(
                    f"{path} has its weights under model, where init_cfg does not "
                    'look: save them alone, torch.save(torch.load(...)["model"], ...)'
                )
            weights = content.get("state_dict", content)
            # Without a prefix, MMEngine removes that of a wrapper.
            is_wrapped = any(f"module.{n}" in weights for n in module.state_dict())
            start = prefix or ("module" if is_wrapped else "")
            start = start and start.removesuffix(".") + "."
            inside = [n for n in weights if n.startswith(start)]
            weights = {n.removeprefix(start): weights[n] for n in inside}
            source = f"{path}, for {name or 'the model'} with {prefix=},"
            check_weights(module, weights, source, partial=True)


def shapes_of(weights: Mapping[str, Tensor]) -> Shapes:
    """Shapes by name, without those of NOT_MISSED."""
    return {
        name: tuple(weight.shape)
        for name, weight in weights.items()
        if isinstance(weight, Tensor) and not name.endswith(NOT_MISSED)
    }


def check_weights(
    module: nn.Module, weights: Mapping[str, Tensor], source: str, partial: bool = False
) -> None:
    """Check that weights fill a module, and are not those of a deeper one.

    Other weights that the module does not have, such as another head's, are ignored.

    Args:
        module: What the weights are for. It may have an auxiliary head of its own.
        weights: By their names in the module.
        source: Where they come from, for the error.
        partial: Whether training may start from them: children of the module may be
            missing as a whole, except the first one (the stem or the backbone) and the
            stages of a backbone, and classifiers may be for other numbers of classes.

    Raises:
        ValueError: Weights are missing, unexpected or of another shape.
    """
    given = shapes_of(weights)
    wanted = wanted_shapes(module, given)
    required = _required_children(module, wanted, given, partial)
    unfit = {
        name: (shape, given.get(name, ()))
        for name, shape in wanted.items()
        if name.split(".")[0] in required and given.get(name) != shape
    }
    if partial:
        unfit = _without_classifiers(module, unfit)
    unfit |= {name: ((), given[name]) for name in _left_over(wanted, given)}
    if unfit:
        names = ", ".join([*unfit][:5]) + ", ..." * (len(unfit) > 5)
        raise ValueError(
            f"{source} does not fit {type(module).__name__}: {len(unfit)} of "
            f"{len({*wanted, *unfit})} weights are missing, unexpected or of another "
            f"shape ({names}). "
            + _remedy(module, wanted, given)
            + ", or set default_hooks.check_setup.strict_weights=False to start them "
            "at random" * partial
        )


def wanted_shapes(module: nn.Module, given: Shapes) -> Shapes:
    """The shapes that fill a module, of static weights where it takes those given."""
    wanted = shapes_of(module.state_dict())
    static = [
        name
        for name, layer in _dynamized_layers(module).items()
        if layer.from_static and len(given.get(name, ())) == 4
    ]
    for name in static:  # a kernel (O, C/G, kH, kW) fills a bank (O, K, C/G, kH, kW)
        wanted[name] = wanted[name][:1] + wanted[name][2:]
    if static:  # the predictors keep their initial weights
        wanted = {n: s for n, s in wanted.items() if ".predictor." not in f".{n}"}
    return wanted


def _left_over(wanted: Shapes, given: Shapes) -> Iterator[str]:
    """Weights of another network: blocks after the last one, other predictors."""
    for name in sorted(given.keys() - wanted.keys()):
        owner, inside, _ = name.rpartition("predictor.")
        block = re.fullmatch(r"(.*\.)(\d+)(\..*)", name)
        before = block and f"{block[1]}{int(block[2]) - 1}{block[3]}"
        is_block = wanted.get(before) == given[name]
        is_predictors = inside and f"{owner}predictor.logits.weight" in wanted
        if (is_block or is_predictors) and not name.startswith("auxiliary_head."):
            yield name


def _dynamized_layers(module: nn.Module) -> dict[str, DynamizedConv2d]:
    """The layers that dynamize() has made, by the names of their weights."""
    return {
        f"{name}.weight": layer
        for name, layer in module.named_modules()
        if isinstance(layer, DynamizedConv2d)
    }


def _required_children(
    module: nn.Module, wanted: Shapes, given: Shapes, partial: bool
) -> set[str]:
    """The children of a module that must not lack weights."""
    children = [name.split(".")[0] for name in wanted]
    found = {*children} & {name.split(".")[0] for name in given}
    if not partial or not found:
        return {*children} - {"auxiliary_head"}
    required = {children[0], *found}
    if children[0] != "backbone":
        required |= {n for n, part in module.named_children() if _is_stage(n, part)}
    return required


def _remedy(module: nn.Module, wanted: Shapes, given: Shapes) -> str:
    """What to do about weights that do not fit, by a likely cause."""
    first = next(iter(wanted))
    nested = [n.removesuffix(first) for n in given if n.endswith(f".{first}")]
    if nested and first not in given:
        return f'Its names begin with "{nested[0]}": remove that, or give it as prefix'
    is_dynamic = any(isinstance(m, DyConv2d) for m in module.modules())
    is_static = given and 5 not in map(len, given.values())
    dynamized = _dynamized_layers(module).values()
    if is_dynamic and is_static and not any(layer.from_static for layer in dynamized):
        return "It looks like a checkpoint of a static network: " + (
            'set from_static=True beside type="Dynamized"'
            if dynamized
            else "static2dynet.py converts those of ResNet and MobileNet; others fit "
            'type="Dynamized" with from_static=True'
        )
    return (
        "Use a checkpoint of the same network (static or dynamic, stem, width, depth, "
        "num_kernels, coefficients)"
    )


def _is_stage(name: str, part: nn.Module) -> bool:
    """Whether a part of a backbone holds blocks: it is numbered, or a list of them."""
    is_stage = name[-1].isdigit() or isinstance(part, nn.Sequential | nn.ModuleList)
    return is_stage and any(weight.ndim > 1 for weight in part.parameters())  # no norms


def _without_classifiers(module: nn.Module, unfit: dict) -> dict:
    """Leave out weights that differ in the number of classes only.

    Those of a classifier have a row per class, or one more row. Others, as in
    PointHead, differ by the same number of columns.
    """
    rows = {
        number + extra
        for m in module.modules()
        if isinstance(getattr(m, "num_classes", None), int)
        for number in (m.num_classes, getattr(m, "out_channels", m.num_classes))
        for extra in (0, 1)
    }
    differences = {
        name: {(a, a - b) for a, b in zip(*shapes, strict=True) if a != b}
        for name, shapes in unfit.items()
        if len(shapes[0]) == len(shapes[1]) and shapes[0][2:] == shapes[1][2:]
        if not name.startswith("backbone.")
    }
    allowed = {d for pairs in differences.values() for a, d in pairs if a in rows}
    fit = {n for n, p in differences.items() if p and {d for _, d in p} <= allowed}
    return {name: shapes for name, shapes in unfit.items() if name not in fit}
