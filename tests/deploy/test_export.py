"""An exported file computes what its segmentor does, and what the host does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmengine.config import Config
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.deploy import KernelReuse, fold_bn
from mmseg_dynet.deploy.export import (
    OPSET,
    MatmulPool,
    _same_padded,
    export,
    run_exported,
    run_segmentor,
)
from mmseg_dynet.ops import DyConv2d
from mmseg_dynet.ops.predictor import Affine

# The host advises on sizes wherever corners are aligned; ours are odd on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:When align_corners=True:UserWarning")

CONFIGS = Path(__file__).parents[2] / "configs/dynet"
SMALL = (64, 96)
METADATA = {"classes": ["road", "sky"], "palette": [[128, 64, 128], [70, 130, 180]]}

DYNAMIC = dict(type="DyResNet", depth=18, num_kernels=2, base_channels=8,
               stem_channels=8, num_stages=1, strides=(2,), dilations=(1,),
               out_indices=(0,))  # fmt: skip
OPTIONS = dict(in_channels=8, in_index=0, channels=8, num_classes=5,
               norm_cfg=dict(type="BN"))  # fmt: skip
HEAD = dict(type="FCNHead", num_convs=1, **OPTIONS)
# One logit, whose sigmoid the host computes.
BINARY_HEAD = HEAD | dict(
    num_classes=2, out_channels=1, threshold=0.3,
    loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=True),
)  # fmt: skip
# Adaptive pooling, and corners aligned as in 769x769.
PSP_HEAD = dict(type="PSPHead", pool_scales=(3,), align_corners=True, **OPTIONS)
DA_HEAD = dict(type="DAHead", pam_channels=4, **OPTIONS)  # several outputs in training

# A static ResNet whose convolutions share predictors behind the back of its code.
DYNAMIZED = dict(type="Dynamized", num_kernels=2, module=DYNAMIC | dict(type="ResNet"))
del DYNAMIZED["module"]["num_kernels"]


class Padded(nn.Sequential):
    """A static backbone with the padding of MobileNetV3's strided convolutions."""

    def __init__(self) -> None:
        conv = Conv2dAdaptivePadding(3, 8, 3, stride=2)
        super().__init__(conv, nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (super().forward(x),)


def build(backbone: dict = DYNAMIC, head: dict = HEAD, **preprocessor) -> nn.Module:
    """A small segmentor whose logits are some units large."""
    torch.manual_seed(0)
    normalise = dict(type="SegDataPreProcessor", mean=[120.0], std=[60.0])
    segmentor = dict(
        type="EncoderDecoder",
        data_preprocessor=normalise | preprocessor,
        backbone=backbone,
        decode_head=head,
        auxiliary_head=HEAD,
        test_cfg=dict(mode="whole"),
    )
    model = build_model(Config(dict(model=segmentor)))
    nn.init.normal_(model.decode_head.conv_seg.weight)  # the host's is nearly zero
    return model


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 2), ((1, 5), 2), (1, 2)])
def test_paddings_in_integers_are_mmcvs(kernel_size, stride):
    conv = Conv2dAdaptivePadding(3, 4, kernel_size, stride)
    x = torch.randn(1, 3, 6, 9)
    expected = conv(x)
    torch.testing.assert_close(_same_padded(conv)(x), expected)


def random_images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def check(model: nn.Module, path: Path, *shapes: tuple[int, ...]) -> None:
    """Compare a file with its segmentor on images (B, C, H, W)."""
    for shape in shapes:
        images = random_images(*shape)
        expected = run_segmentor(model, images)
        assert expected.shape[2:] == images.shape[2:]
        tolerance = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(
            run_exported(path, images), expected, rtol=0, atol=tolerance
        )


def host_logits(model: nn.Module, image: Tensor) -> Tensor:
    """The host's own way from an image (C, H, W) to logits (N, H, W)."""
    size = tuple(image.shape[1:])
    sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size))
    image = image.flip(0) if len(image) == 3 else image  # the host reads BGR
    (result,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    return result.seg_logits.data


@pytest.mark.parametrize(
    ("head", "preprocessor"),
    [
        (HEAD, dict(bgr_to_rgb=True)),
        (HEAD, dict(bgr_to_rgb=False)),
        (HEAD, dict(mean=None, std=None)),
        (HEAD, dict(test_cfg=dict(size_divisor=32), pad_val=3)),
        (HEAD, dict(test_cfg=dict(size=(64, 96)), pad_val=3)),
        (HEAD, dict(test_cfg=dict(size=(64, 64)))),  # the image is wider
        (PSP_HEAD, dict(bgr_to_rgb=True)),
        (BINARY_HEAD, dict(bgr_to_rgb=True)),
        (DA_HEAD, dict(bgr_to_rgb=True)),
    ],
    ids=lambda options: options.get("type", str(options)),
)
def test_an_image_segmentor_predicts_what_the_host_predicts(head, preprocessor):
    model = build(head=head, **preprocessor)
    images = random_images(1, 3, 50, 71)
    logits = run_segmentor(model, images)
    with torch.no_grad():
        expected = host_logits(model, images[0])
    if head is BINARY_HEAD:
        logits = logits.sigmoid()
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-7)


def test_openmmlab_names_the_conversion_of_channels_differently():
    model = build(bgr_to_rgb=True)
    images = random_images(1, 3, *SMALL)
    expected = run_segmentor(model, images)
    for ours, theirs in (("_", ""), ("", "_")):  # whichever host this is
        attributes = vars(model.data_preprocessor)
        value = attributes.pop(f"{ours}channel_conversion", None)
        attributes.setdefault(f"{theirs}channel_conversion", value)
        torch.testing.assert_close(run_segmentor(model, images), expected)


@pytest.mark.parametrize("channels", (1, 4))
def test_images_of_other_channels_stay_in_their_order(channels, tmp_path):
    model = build(DYNAMIC | dict(in_channels=channels), bgr_to_rgb=True)
    images = random_images(1, channels, *SMALL)
    with torch.no_grad():
        expected = host_logits(model, images[0])
    torch.testing.assert_close(run_segmentor(model, images)[0], expected)
    export(model, images.shape[1:], tmp_path / "model.pt2")
    check(model, tmp_path / "model.pt2", images.shape)


def test_without_a_preprocessor_pixels_are_not_normalised():
    model = build()
    model.data_preprocessor = nn.Identity()
    images = random_images(2, 3, *SMALL)
    with torch.no_grad():
        expected = model(images.flip(1).float())
    logits = run_segmentor(model, images)
    torch.testing.assert_close(
        logits, resize(expected, SMALL, mode="bilinear", align_corners=False)
    )


def test_an_onnx_file_holds_one_graph_and_nothing_else(draw_norms, tmp_path):
    segmentor, path = build(), tmp_path / "model.onnx"
    draw_norms(segmentor)
    export(segmentor, (3, *SMALL), path, metadata=METADATA)
    check(segmentor, path, (1, 3, *SMALL))
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import} == {"": OPSET}
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == METADATA
    (images,), (logits,) = model.graph.input, model.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    sizes = [[d.dim_value for d in port.type.tensor_type.shape.dim]
             for port in (images, logits)]  # fmt: skip
    assert sizes == [[1, 3, *SMALL], [1, 5, *SMALL]]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert all(node.op_type != "BatchNormalization" for node in model.graph.node)
    # Weights of backbone and decode head; of a folded norm, only the bias is left.
    weights = sum(
        parameter.numel()
        for name, parameter in segmentor.named_parameters()
        if parameter.ndim > 1 and not name.startswith("auxiliary")
    )
    stored = sum(np.prod(t.dims) for t in model.graph.initializer)
    assert weights < stored < 1.05 * weights


VARIED = ((2, 3, *SMALL), (1, 3, 65, 97), (3, 3, 83, 58), (4, 3, 33, 161))


def test_onnx_of_any_number_and_size_of_images(tmp_path):
    model = build(DYNAMIC, PSP_HEAD, test_cfg=dict(size=(70, 90)))
    export(model, (3, *SMALL), tmp_path / "model.onnx", dynamic_shape=True)
    check(model, tmp_path / "model.onnx", *VARIED)
    graph = onnx.load(tmp_path / "model.onnx").graph
    sizes = [
        d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim
    ]
    assert sizes == ["batch", 5, "height", "width"]


def test_openvino_of_any_number_and_size_of_images(tmp_path):
    openvino = pytest.importorskip("openvino")
    model = build(DYNAMIZED, PSP_HEAD, test_cfg=dict(size_divisor=32))
    path = tmp_path / "model.xml"
    export(model, (3, *SMALL), path, True, METADATA)
    check(model, path, *VARIED)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    network = openvino.Core().read_model(path)
    assert network.input("images").partial_shape.to_string() == "[?,3,?,?]"
    for name, value in METADATA.items():
        assert json.loads(network.get_rt_info(name).astype(str)) == value


def test_openvino_fuses_by_a_chain_of_multiply_adds(tmp_path):
    openvino = pytest.importorskip("openvino")
    model = build()
    export(model, (3, *SMALL), tmp_path / "model.xml")
    check(model, tmp_path / "model.xml", (1, 3, *SMALL))
    operations = openvino.Core().read_model(tmp_path / "model.xml").get_ops()
    products = [op for op in operations if op.get_type_name() == "MatMul"]
    linears = [m for m in model.backbone.modules() if isinstance(m, Affine)]
    assert len(products) == len(linears)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt2"])
def test_a_network_that_is_not_a_segmentor_is_exported_as_it_is(name, tmp_path):
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = nn.Sequential(DyConv2d(3, 8, 3, num_kernels=2), nn.ReLU()).eval()
    x = torch.randn(1, 3, *SMALL)
    path = tmp_path / name
    export(network, x.shape[1:], path)
    with torch.no_grad():
        torch.testing.assert_close(run_exported(path, x), network(x))


@pytest.mark.parametrize("backbone", [DYNAMIC, dict(type=Padded)], ids=["dy", "static"])
def test_a_program_of_any_number_and_size_of_images(backbone, tmp_path):
    model = build(backbone, PSP_HEAD)
    path = tmp_path / "model.pt2"
    export(model, (3, *SMALL), path, dynamic_shape=True)
    check(model, path, *VARIED)
    graph = torch.export.load(path).graph
    loops = graph.find_nodes(op="call_function", target=torch.ops.higher_order.scan)
    assert bool(loops) == (backbone is DYNAMIC)  # a static network takes it at once


def test_a_program_runs_with_torch_alone(tmp_path):
    model = build()
    export(model, (3, *SMALL), tmp_path / "model.pt2", metadata=METADATA)
    images = random_images(1, 3, *SMALL)
    np.save(tmp_path / "images.npy", images.numpy())
    script = """
import sys
for name in ("mmseg_dynet", "mmseg", "mmcv", "mmengine"):
    sys.modules[name] = None
import numpy, torch
images = torch.from_numpy(numpy.load("images.npy"))
numpy.save("logits.npy", torch.export.load("model.pt2").module()(images).numpy())
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    logits = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    torch.testing.assert_close(logits, run_segmentor(fold_bn(model), images))
    extra_files = {"classes": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra_files)
    assert json.loads(extra_files["classes"]) == METADATA["classes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("dy-mobile-d8_fcn", SMALL),
        ("dy-shuffle-d8_fcn", SMALL),
        ("dy-mobilenet-v3-d8_lraspp", (392, 400)),  # it pools windows of 49x49 at 1/8
    ],
)
def test_onnx_of_every_backbone(name, size, tmp_path):
    torch.manual_seed(0)
    path = CONFIGS / f"{name}_4xb2-80k_cityscapes-512x1024.py"
    model = build_model(load_config(str(path), {"model.backbone.num_kernels": 2}))
    export(model, (3, *size), tmp_path / "model.onnx")
    check(model, tmp_path / "model.onnx", (1, 3, *size))


def test_the_segmentor_is_left_as_it_was(tmp_path):
    model = build().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    advice = resize.__defaults__
    export(model, (3, *SMALL), tmp_path / "model.pt2")
    run_segmentor(model, random_images(1, 3, *SMALL))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.auxiliary_head is not None
    assert resize.__defaults__ == advice
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_shape_that_the_network_does_not_take_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"not run on an image of 4x64x96 .*channels"):
        export(build(), (4, *SMALL), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_extension_of_no_format_and_kept_kernels_are_refused():
    model = build()
    with pytest.raises(ValueError, match=r"model\.engine must have .* \.xml, \.pt2$"):
        export(model, (3, *SMALL), Path("model.engine"))
    with KernelReuse(model, every=2), pytest.raises(ValueError, match=r"remove\(\)"):
        export(model, (3, *SMALL), Path("model.onnx"))


@pytest.mark.parametrize("bins", (1, 2, 3, 6, (2, 5), (None, 4)))
def test_matmul_pool_is_adaptive_pooling(bins):
    pool = nn.AdaptiveAvgPool2d(bins)
    for height, width in ((6, 6), (7, 13), (12, 18), (4, 5), (65, 97)):
        x = torch.randn(2, 3, height, width)
        torch.testing.assert_close(MatmulPool(pool)(x), pool(x), rtol=0, atol=1e-6)


def test_a_pool_with_a_forward_of_its_own_is_exported_as_it_is(tmp_path):
    class Corner(nn.AdaptiveAvgPool2d):
        def forward(self, x):
            return x[..., :1, :1]

    x = torch.rand(1, 3, *SMALL)
    export(Corner(1), (3, *SMALL), tmp_path / "pool.pt2")
    assert torch.equal(run_exported(tmp_path / "pool.pt2", x), Corner(1)(x))
