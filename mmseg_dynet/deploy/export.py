"""Export whole segmentors to ONNX and to ``torch.export``, and hold them to PyTorch.

An exported file takes pictures as they are and gives logits of their size; it needs
neither this package nor the host. Batch norms are folded, auxiliary heads left out. A
picture is taken whole, also where the segmentor's ``test_cfg`` has windows.

    input   images  (B, 3, H, W), uint8, RGB
    output  logits  (B, N, H, W), float32

In ONNX a convolution's number of groups is a constant, so that one with B * G groups
holds for one B only. Where B may vary, a dynamic network runs inside of a loop over the
images, for each of which a dynamic convolution is a plain one.

Legend: B images, N classes, H and W pixels.
"""

import json
import operator
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmseg.models.utils import resize
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.modules.utils import _pair

from mmseg_dynet.files import replacing
from mmseg_dynet.models.blocks.inverted_residual import SamePadding
from mmseg_dynet.ops import DyConv2d

from .fold_bn import fold_bn
from .replace import replace_modules

try:
    from torch._higher_order_ops.scan import scan
    from torch.export import Dim, ExportedProgram
except ImportError as error:
    raise ImportError(
        f"export needs a newer torch than {torch.__version__}: {error}. "
        "Run\n    pip install --upgrade torch"
    ) from error

OPSET = 18
INPUT, OUTPUT = "images", "logits"
_VARYING = {0: "batch", 2: "height", 3: "width"}


def export_onnx(
    model: nn.Module,
    shape: tuple[int, int],
    path: Path,
    dynamic_shape: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a segmentor to an ONNX file.

    Args:
        model: A segmentor of MMSegmentation. It is left as it is.
        shape: (H, W) of the images, in pixels.
        path: The file to write, one for graph and weights (less than 2 GB). Its folder
            exists.
        dynamic_shape: Whether B, H and W may vary: ``shape`` is then an example. Else
            the file takes one image of this shape.
        metadata: What ONNX's ``metadata_props`` are to hold, each value as JSON.

    Raises:
        ValueError: The network does not run on images of this shape, gives one logit
            for two classes, or pads its images for a test.
    """
    # A dependency of onnxscript; without the extra, programs are exported still.
    import onnx_ir
    from onnx_ir.passes import common

    program = _trace(model, shape, dynamic_shape)
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
    # The exporter leaves Python's stack trace at every node, up to half of the file.
    common.ClearMetadataAndDocStringPass()(onnx_program.model)
    common.RemoveUnusedNodesPass()(onnx_program.model)
    onnx_program.model.metadata_props.update(_as_json(metadata))
    with replacing(path) as partial:
        onnx_ir.save(onnx_program.model, partial)


def export_program(
    model: nn.Module,
    shape: tuple[int, int],
    path: Path,
    dynamic_shape: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a segmentor to a file for :func:`torch.export.load`.

    Arguments and errors are those of :func:`export_onnx`; ``metadata`` goes into
    ``extra_files``.
    """
    program = _trace(model, shape, dynamic_shape)
    _spell_out_sums(program.graph_module)
    with replacing(path) as partial:
        torch.export.save(program, partial, extra_files=_as_json(metadata))


@torch.no_grad()
def onnx_difference(model: nn.Module, path: Path, images: Tensor) -> float:
    """Run an ONNX file, and the segmentor that it was exported from, on a CPU.

    Args:
        model: The segmentor.
        path: What :func:`export_onnx` has written.
        images: (B, 3, H, W), uint8, RGB.

    Returns:
        The largest absolute difference of a logit.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return _difference(model, torch.from_numpy(logits), images)


@torch.no_grad()
def program_difference(model: nn.Module, path: Path, images: Tensor) -> float:
    """:func:`onnx_difference` of what :func:`export_program` has written."""
    logits = torch.export.load(path).module()(images)
    return _difference(model, logits, images)


@contextmanager
def _resizing_without_advice() -> Iterator[None]:
    """Keep the host's ``resize`` from comparing sizes: a graph would hold for these."""
    before = resize.__defaults__  # the last is that of ``warning``
    resize.__defaults__ = (*before[:-1], False)
    try:
        yield
    finally:
        resize.__defaults__ = before


@_resizing_without_advice()
def _difference(model: nn.Module, logits: Tensor, images: Tensor) -> float:
    expected = PictureSegmentor(deepcopy(model).eval())(images)
    return (logits - expected).abs().max().item()


class PictureSegmentor(nn.Module):
    """A segmentor from pictures as they are to logits of their size.

    Args:
        segmentor: A segmentor of MMSegmentation, whose data preprocessor says how
            pictures are normalised.

    Raises:
        ValueError: It gives one logit for two classes, or its preprocessor pads images
            for a test.
    """

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor
        preprocessor = segmentor.data_preprocessor
        if segmentor.out_channels == 1:
            raise ValueError(
                "out_channels=1: the segmentor tells its two classes by a threshold, "
                "and whoever reads a file expects a logit a class: train it with "
                "num_classes=2 and without out_channels"
            )
        if test_cfg := getattr(preprocessor, "test_cfg", None):
            raise ValueError(
                f"data_preprocessor.test_cfg={test_cfg} pads images, which a file does "
                "not: add --cfg-options model.data_preprocessor.test_cfg=None if the "
                "network does without"
            )
        # The host reads pictures as BGR, which its preprocessors turn round or not.
        self.takes_rgb = getattr(preprocessor, "_channel_conversion", False)
        self.normalises = getattr(preprocessor, "_enable_normalize", False)

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB images (B, 3, H, W), 0 .. 255, to logits (B, N, H, W)."""
        x = (images if self.takes_rgb else images.flip(1)).float()
        if self.normalises:
            preprocessor = self.segmentor.data_preprocessor
            x = (x - preprocessor.mean) / preprocessor.std
        return F.interpolate(
            self.segmentor(x),
            images.shape[2:],
            mode="bilinear",
            align_corners=self.segmentor.align_corners,
        )


class ImageByImage(nn.Module):
    """A network in a loop over the images of a batch, which exports as one.

    Args:
        network: Maps (1, ...) to (1, ...).
    """

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

    Its windows are computed from the input's size when it runs; the exporters would fix
    them at the size of the example.

    Args:
        pool: The layer to take the output size from.
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


def _average(size: int, bins: int, like: Tensor) -> Tensor:
    """The matrix (bins, size) that averages over the window of each bin."""
    pixels = torch.arange(size, device=like.device)
    index = torch.arange(bins, device=like.device)[:, None]
    first = index * size // bins
    end = ((index + 1) * size + bins - 1) // bins  # rounded up
    inside = (first <= pixels) & (pixels < end)
    return inside.to(like.dtype) / (end - first)


class _SamePaddedConv(nn.Module):
    """mmcv's Conv2dAdaptivePadding, with sizes in integer arithmetic."""

    def __init__(self, conv: Conv2dAdaptivePadding) -> None:
        super().__init__()
        self.padding = SamePadding(
            conv.kernel_size[0], conv.stride[0], conv.dilation[0]
        )
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return nn.Conv2d.forward(self.conv, self.padding(x))


@_resizing_without_advice()
def _trace(
    model: nn.Module, shape: tuple[int, int], dynamic_shape: bool
) -> ExportedProgram:
    segmentor = fold_bn(model).cpu().requires_grad_(False)
    segmentor.auxiliary_head = None
    replace_modules(segmentor, nn.AdaptiveAvgPool2d, MatmulPool)
    replace_modules(segmentor, Conv2dAdaptivePadding, _SamePaddedConv)
    network = PictureSegmentor(segmentor)
    # An example of one image would fix the number of images.
    images = torch.zeros(2 if dynamic_shape else 1, 3, *shape, dtype=torch.uint8)
    _check_runs(network, images[:1])
    if not dynamic_shape:
        return torch.export.export(network, (images,))
    if any(isinstance(module, DyConv2d) for module in segmentor.modules()):
        network = ImageByImage(network)
    varying = dict.fromkeys(_VARYING, Dim.DYNAMIC)
    return torch.export.export(network, (images,), dynamic_shapes=(varying,))


@torch.no_grad()
def _check_runs(network: nn.Module, images: Tensor) -> None:
    try:
        network(images)
    except RuntimeError as error:
        height, width = images.shape[2:]
        raise ValueError(
            f"the network does not run on an image of {height}x{width} pixels "
            f"({error}): give the shape that it trains on"
        ) from error


def _spell_out_sums(program: GraphModule) -> None:
    """Turn sums of sizes in loops into additions, which alone can be saved."""

    def value(term: Node | int) -> torch.SymInt | int:
        return term.meta["val"] if isinstance(term, Node) else term

    graphs = [m.graph for m in program.modules() if isinstance(m, GraphModule)]
    for graph in graphs:
        for node in graph.find_nodes(op="call_function", target=torch.sym_sum):
            total, *terms = node.args[0]
            with graph.inserting_before(node):
                for term in terms:
                    addition = graph.call_function(operator.add, (total, term))
                    addition.meta["val"] = value(total) + value(term)
                    total = addition
            node.replace_all_uses_with(total)
            graph.erase_node(node)


def _as_json(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in (metadata or {}).items()}
