"""Export whole segmentors to ONNX, OpenVINO and ``torch.export``, and run the files.

An exported file maps raw images to logits of their size; it needs neither this package
nor the host. Batch norms are folded, auxiliary heads left out. An image is processed
whole, even if the segmentor's ``test_cfg`` uses windows.

    input   images  (B, C, H, W), uint8; RGB, or for C other than 3 as the host reads it
    output  logits  (B, N, H, W), float32

Any other network is exported as it is, from float32 images to its one output.

In ONNX the number of groups of a convolution is a constant, so one with B * G groups
fixes B. Where B may vary, a dynamic network runs in a loop over the images, for each of
which a dynamic convolution is a plain one.

Legend: B images, C channels, N logits per pixel, H and W pixels.
"""

import json
import logging
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmseg.models.utils import resize
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.node import map_arg
from torch.nn.modules.utils import _pair

from mmseg_dynet.models.blocks.inverted_residual import SamePadding
from mmseg_dynet.ops import DyConv2d, fuse_kernels
from mmseg_dynet.ops.modules import copy_of, replace_modules

from .fold_bn import fold_bn
from .kernel_reuse import is_reusing
from .runtimes import onnxruntime_call, openvino_call

try:
    from torch._higher_order_ops.scan import scan
    from torch.export import Dim, ExportedProgram
except ImportError as error:
    raise ImportError(
        f"export needs torch 2.6 or newer, found {torch.__version__} ({error}). "
        "Run\n    pip install --upgrade torch"
    ) from error

EXTENSIONS = {  # and what each needs of the extras "deploy" and "openvino"
    ".onnx": ("onnxscript",), ".xml": ("onnxscript", "openvino"), ".pt2": (),
}  # fmt: skip
OPSET = 18
INPUT, OUTPUT = "images", "logits"
_VARYING = {0: "batch", 2: "height", 3: "width"}


def export(
    model: nn.Module,
    shape: tuple[int, int, int],
    path: str | Path,
    dynamic_shape: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a network to a file for ONNX, OpenVINO or torch.export, by its extension.

    OpenVINO's ``.xml`` has its weights beside it, as float32 in a ``.bin``.

    Args:
        model: A segmentor of MMSegmentation, or another network. It is left as it is.
        shape: (C, H, W) of the images.
        path: The file to write: ``.onnx`` or ``.xml`` (less than 2 GB), or ``.pt2``.
        dynamic_shape: Whether B, H and W may vary: ``shape`` is then an example.
            Otherwise the file takes one image of this shape.
        metadata: Values to store as JSON: in ``metadata_props`` of ONNX, ``rt_info`` of
            OpenVINO, ``extra_files`` of torch.export.

    Raises:
        ValueError: The file has another extension, or images of this shape do not fit.
        ImportError: A package is missing.
    """
    path = Path(path)
    if path.suffix not in EXTENSIONS:
        raise ValueError(f"{path} must have an extension of {', '.join(EXTENSIONS)}")
    if missing := [n for n in EXTENSIONS[path.suffix] if find_spec(n) is None]:
        raise ImportError(
            f"export to {path.suffix} needs {', '.join(missing)}: run\n"
            "    pip install -e '.[deploy,openvino]' -c constraints/onedl.txt"
        )
    texts = {name: json.dumps(value) for name, value in (metadata or {}).items()}
    fusion = _fuse_by_chain if path.suffix == ".xml" else fuse_kernels
    program = _trace(model, shape, dynamic_shape, fusion)
    if path.suffix == ".pt2":
        _spell_out_sums(program.graph_module)
        torch.export.save(program, path, extra_files=texts)
        return
    onnx_program = _to_onnx(program, dynamic_shape)
    if path.suffix == ".onnx":
        onnx_program.model.metadata_props.update(texts)
        onnx_program.save(path)
        return
    import openvino

    network = openvino.Core().read_model(onnx_program.model_proto.SerializeToString())
    for name, text in texts.items():
        network.set_rt_info(text, name)
    openvino.save_model(network, path, compress_to_fp16=False)


def run_exported(path: Path, images: Tensor) -> Tensor:
    """Map images (B, C, H, W) to logits with a file of :func:`export`, on the CPU."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(images)
    make_call = openvino_call if path.suffix == ".xml" else onnxruntime_call
    logits = make_call(path, images, torch.get_num_threads())()[0]
    return torch.from_numpy(logits)


@torch.no_grad()
def run_segmentor(model: nn.Module, images: Tensor) -> Tensor:
    """Map images (B, C, H, W), uint8, to logits as an exported file does.

    The model is a segmentor of MMSegmentation on the CPU. It is left as it is.
    """
    with _without_resize_warning():
        return ImageSegmentor(copy_of(model).eval())(images)


class ImageSegmentor(nn.Module):
    """A segmentor of MMSegmentation from images as they are to logits of their size.

    Its data preprocessor normalises images and may pad them.
    """

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor
        preprocessor = segmentor.data_preprocessor
        # Hosts read BGR, which preprocessors may make RGB: OneDL's, then OpenMMLab's.
        names = ("_channel_conversion", "channel_conversion")
        self.takes_rgb = any(getattr(preprocessor, name, False) for name in names)
        self.normalises = getattr(preprocessor, "_enable_normalize", False)
        self.padding = getattr(preprocessor, "test_cfg", None) or {}

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W), 0 .. 255, to logits (B, N, H, W)."""
        height, width = images.shape[2:]
        if images.shape[1] == 3 and not self.takes_rgb:
            images = images.flip(1)
        x = images.float()
        if self.normalises:
            preprocessor = self.segmentor.data_preprocessor
            x = (x - preprocessor.mean) / preprocessor.std
        if self.padding:
            x = self._pad(x)
        logits = self.segmentor.encode_decode(x, [dict(img_shape=x.shape[2:])])
        return logits[..., :height, :width]

    def _pad(self, x: Tensor) -> Tensor:
        """Pad at the right and the bottom, as the host does in a test."""
        if (divisor := self.padding.get("size_divisor")) is not None:
            bottom, right = (-side % divisor for side in x.shape[2:])
        else:
            bottom, right = (
                torch.sym_max(size - side, 0)
                for size, side in zip(self.padding["size"], x.shape[2:], strict=True)
            )
        value = self.segmentor.data_preprocessor.pad_val
        return F.pad(x, (0, right, 0, bottom), value=value)


class ImageByImage(nn.Module):
    """A network from (1, ...) to (1, ...) in a loop over images, exported as a loop."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, ...) to (B, ...)."""

        def step(count: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
            return count + 1, self.network(image[None])[0]

        # For ONNX, a loop over one tensor must also carry one.
        _, outs = scan(step, images.new_zeros(1), images)
        return outs


class MatmulPool(nn.Module):
    """:class:`nn.AdaptiveAvgPool2d` as two matrix products.

    Its windows are computed from the size of the input at run time; the exporters would
    fix them at the size of the example.
    """

    def __init__(self, pool: nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        self.output_size = _pair(pool.output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W) to ``(B, C, *output_size)``."""
        rows, columns = (
            _average(size, bins or size, x)
            for size, bins in zip(x.shape[2:], self.output_size, strict=True)
        )
        return rows @ x @ columns.T


def _matmul_pool(pool: nn.AdaptiveAvgPool2d) -> nn.Module:
    own_forward = type(pool).forward is not nn.AdaptiveAvgPool2d.forward
    return pool if own_forward else MatmulPool(pool)


def _average(size: int, bins: int, like: Tensor) -> Tensor:
    """The matrix (bins, size) that averages over the window of each bin."""
    pixels = torch.arange(size, device=like.device)
    index = torch.arange(bins, device=like.device)[:, None]
    first = index * size // bins
    end = ((index + 1) * size + bins - 1) // bins  # rounded up
    inside = (first <= pixels) & (pixels < end)
    return inside.to(like.dtype) / (end - first)


def _same_padded(conv: Conv2dAdaptivePadding) -> nn.Module:
    """Change a convolution of mmcv in place to compute its padding in integers.

    One that differs between the axes, or steps beyond its kernel, stays as it is.
    """
    axes = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
    (size, stride, gap), *others = dict.fromkeys(axes)
    if others or stride > gap * (size - 1) + 1:
        return conv
    padding = SamePadding(size, stride, gap)
    conv.__class__ = nn.Conv2d  # does not pad
    return nn.Sequential(padding, conv)


@contextmanager
def _without_resize_warning() -> Iterator[None]:
    """Keep the host's ``resize`` from comparing sizes, which would fix them."""
    before = resize.__defaults__  # the last is that of ``warning``
    resize.__defaults__ = (*before[:-1], False)
    try:
        yield
    finally:
        resize.__defaults__ = before


def _fuse_by_chain(weight: Tensor, coeff: Tensor) -> Tensor:
    """Fuse kernels as K multiply-adds; see :func:`mmseg_dynet.ops.fuse_kernels`.

    OpenVINO compiles them to loops that read the bank as fast as the memory is. There,
    a matrix product is slower.
    """
    kernels = weight.flatten(2).unbind(1)  # K times (O, C/G * kH * kW)
    terms = [c * k for c, k in zip(coeff.split(1, 2), kernels, strict=True)]
    return sum(terms[1:], terms[0]).unflatten(2, weight.shape[2:])


@_without_resize_warning()
def _trace(
    model: nn.Module,
    shape: tuple[int, int, int],
    dynamic_shape: bool,
    fusion: Callable[[Tensor, Tensor], Tensor] = fuse_kernels,
) -> ExportedProgram:
    if any(is_reusing(module) for module in model.modules()):
        raise ValueError("remove() the KernelReuse that this model is under")
    network = fold_bn(model).cpu().requires_grad_(False)
    replace_modules(network, nn.AdaptiveAvgPool2d, _matmul_pool)
    replace_modules(network, Conv2dAdaptivePadding, _same_padded)
    dynamic_layers = [m for m in network.modules() if isinstance(m, DyConv2d)]
    for layer in dynamic_layers:
        layer.fusion = fusion
    dtype = torch.float32
    if hasattr(network, "encode_decode"):
        network.auxiliary_head = None
        network, dtype = ImageSegmentor(network), torch.uint8
    # An example of one image would fix the number of images.
    images = torch.zeros(2 if dynamic_shape else 1, *shape, dtype=dtype)
    try:
        with torch.no_grad():
            network(images[:1])
    except RuntimeError as error:  # the exporters' would be pages long
        raise ValueError(
            f"the network does not run on an image of {'x'.join(map(str, shape))} "
            f"(channels, height, width): {error}"
        ) from error
    if not dynamic_shape:
        return torch.export.export(network, (images,))
    if dynamic_layers:
        # The loop takes a graph: it traces no code that has state, as blocks of
        # dynamized networks do.
        size = {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
        one = torch.export.export(network, (images[:1],), dynamic_shapes=(size,))
        known = signature(one.module).parameters  # the guard is new in torch 2.9
        guard = {"check_guards": False} if "check_guards" in known else {}
        network = ImageByImage(one.module(**guard))
    varying = dict.fromkeys(_VARYING, Dim.DYNAMIC)
    return torch.export.export(network, (images,), dynamic_shapes=(varying,))


def _to_onnx(program: ExportedProgram, dynamic_shape: bool) -> torch.onnx.ONNXProgram:
    from onnx_ir.passes import common

    # It also lists the packages that it could have exported.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch copies what it deprecates.
        warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated", FutureWarning)
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(_VARYING,) if dynamic_shape else None,
            verbose=False,
        )
    # The exporter stores Python's stack trace with every node, up to half of the file.
    common.ClearMetadataAndDocStringPass()(onnx_program.model)
    common.RemoveUnusedNodesPass()(onnx_program.model)
    return onnx_program


def _spell_out_sums(program: GraphModule) -> None:
    """Turn sums of sizes in loops into additions, which alone can be saved."""
    graphs = [m.graph for m in program.modules() if isinstance(m, GraphModule)]
    for graph in graphs:
        for node in graph.find_nodes(op="call_function", target=torch.sym_sum):
            total, *terms = node.args[0]
            with graph.inserting_before(node):
                for term in terms:
                    addition = graph.call_function(operator.add, (total, term))
                    sizes = map_arg(addition.args, lambda node: node.meta["val"])
                    addition.meta["val"] = operator.add(*sizes)
                    total = addition
            node.replace_all_uses_with(total)
            graph.erase_node(node)
