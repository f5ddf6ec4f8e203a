"""An exported file computes what its segmentor does, and what the host does.

Banks have two kernels instead of six: the graphs are the same, the files small.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mmengine.config import Config
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.deploy.export import (
    OPSET,
    MatmulPool,
    PictureSegmentor,
    export_onnx,
    export_program,
    onnx_difference,
    program_difference,
)

# The host advises on sizes wherever corners are aligned; ours are odd on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:When align_corners=True:UserWarning")

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = (64, 96)
# Config and a shape that its network runs on: LR-ASPP pools windows of 49 x 49 at 1/8.
SEGMENTORS = {
    "dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256": SMALL,
    "dy-mobile-d8_fcn_4xb2-80k_cityscapes-512x1024": SMALL,
    "dy-shuffle-d8_fcn_4xb2-80k_cityscapes-512x1024": SMALL,
    "dy-mobilenet-v3-d8_lraspp_4xb2-80k_cityscapes-512x1024": (392, 400),
}
METADATA = {"classes": ["road", "sky"], "palette": [[128, 64, 128], [70, 130, 180]]}


def build(name: str, **options: object) -> nn.Module:
    """Build the segmentor of a file in configs/dynet."""
    if name.startswith("dy-"):
        options["model.backbone.num_kernels"] = 2
    path = CONFIGS / f"dynet/{name}.py"
    torch.manual_seed(0)
    return build_model(load_config(str(path), options))


def draw_images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def fcn(draw_norms):
    """A segmentor, its batch norms no identities."""
    model = build("dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256")
    draw_norms(model)
    return model


@pytest.fixture(scope="module")
def fcn_file(fcn, tmp_path_factory):
    path = tmp_path_factory.mktemp("fcn") / "fcn.onnx"
    export_onnx(fcn, SMALL, path, metadata=METADATA)
    return path


@pytest.fixture(scope="module")
def pspnet():
    # Dynamic convolutions, adaptive pooling, and corners aligned as in 769x769.
    return build(
        "dy-r18-d8_pspnet_4xb2-80k_cityscapes-512x1024",
        **{"model.decode_head.align_corners": True},
    )


@pytest.mark.parametrize("bgr_to_rgb", (True, False))
@pytest.mark.parametrize("align_corners", (True, False))
def test_a_picture_segmentor_predicts_what_the_host_predicts(bgr_to_rgb, align_corners):
    model = build(
        "dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256",
        **{
            "model.data_preprocessor.bgr_to_rgb": bgr_to_rgb,
            "model.decode_head.align_corners": align_corners,
        },
    )
    (image,) = images = draw_images(1, 3, 50, 71)
    sample = SegDataSample(metainfo=dict(ori_shape=(50, 71), img_shape=(50, 71)))
    with torch.no_grad():
        # The host reads BGR.
        (result,) = model.test_step(dict(inputs=[image.flip(0)], data_samples=[sample]))
        logits = PictureSegmentor(model)(images)
    torch.testing.assert_close(logits[0], result.seg_logits.data, rtol=0, atol=0)


def test_without_a_preprocessor_pixels_stay_what_they_are():
    model = build(
        "r18-d16_fcn_1xb4-200_synthetic-streets-128x256",
        **{"model.data_preprocessor": None},
    )
    images = draw_images(2, 3, *SMALL)
    with torch.no_grad():
        expected = model.predict(images.flip(1).float())
        logits = PictureSegmentor(model)(images)
    for found, result in zip(logits, expected, strict=True):
        assert torch.equal(found, result.seg_logits.data)


@pytest.mark.parametrize("name", [name for name in SEGMENTORS if "r18" not in name])
def test_onnx_computes_the_same(name, tmp_path):
    model = build(name)
    export_onnx(model, SEGMENTORS[name], tmp_path / "model.onnx")
    images = draw_images(1, 3, *SEGMENTORS[name])
    assert onnx_difference(model, tmp_path / "model.onnx", images) < 1e-5


def test_onnx_computes_the_same_with_norms_folded(fcn, fcn_file):
    with torch.no_grad():
        scale = fcn(draw_images(1, 3, *SMALL).float()).abs().max().item()
    assert onnx_difference(fcn, fcn_file, draw_images(1, 3, *SMALL)) < 1e-5 * scale


def test_onnx_of_any_number_and_size_of_images(pspnet, tmp_path):
    export_onnx(pspnet, SMALL, tmp_path / "model.onnx", dynamic_shape=True)
    for shape in ((2, *SMALL), (1, 65, 97), (3, 83, 58), (4, 33, 161)):
        images = draw_images(shape[0], 3, *shape[1:])
        assert onnx_difference(pspnet, tmp_path / "model.onnx", images) < 1e-5, shape
    graph = onnx.load(tmp_path / "model.onnx").graph
    sizes = [
        d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim
    ]
    assert sizes == ["batch", 19, "height", "width"]


@pytest.mark.parametrize("dynamic_shape", (True, False))
def test_a_program_computes_the_same(pspnet, dynamic_shape, tmp_path):
    path = tmp_path / "model.pt2"
    export_program(pspnet, SMALL, path, dynamic_shape, METADATA)
    shapes = [(1, *SMALL)]
    if dynamic_shape:
        shapes += [(2, 65, 97), (3, 83, 58)]
    for batch, height, width in shapes:
        images = draw_images(batch, 3, height, width)
        assert program_difference(pspnet, path, images) < 1e-5
    extra_files = {"classes": ""}
    torch.export.load(path, extra_files=extra_files)
    assert json.loads(extra_files["classes"]) == METADATA["classes"]


def test_a_static_twin_takes_a_batch_at_once(tmp_path):
    # The host's MobileNetV3 rounds sizes up by a division, when it pads.
    head = dict(
        type="FCNHead",
        in_channels=24,
        channels=8,
        num_classes=4,
        norm_cfg=dict(type="BN"),
    )
    backbone = dict(type="MobileNetV3", arch="small", out_indices=(3,))
    segmentor = dict(type="EncoderDecoder", backbone=backbone, decode_head=head,
                     test_cfg=dict(mode="whole"))  # fmt: skip
    model = build_model(Config(dict(model=segmentor)))
    # The three that pad, and one: all twelve take the exporter more than a minute.
    model.backbone.layers = model.backbone.layers[:4]
    export_program(model, SMALL, tmp_path / "model.pt2", dynamic_shape=True)
    for shape in ((1, *SMALL), (2, 65, 97), (3, 83, 58), (2, 34, 35)):
        images = draw_images(shape[0], 3, *shape[1:])
        assert program_difference(model, tmp_path / "model.pt2", images) < 1e-5
    graph = torch.export.load(tmp_path / "model.pt2").graph
    assert not graph.find_nodes(op="call_function", target=torch.ops.higher_order.scan)


def test_a_difference_is_found(fcn, fcn_file, tmp_path):
    images = draw_images(1, 3, *SMALL)
    changed = build("dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256")
    changed.load_state_dict(fcn.state_dict())
    changed.decode_head.conv_seg.bias.data[3] += 0.5
    assert onnx_difference(changed, fcn_file, images) == pytest.approx(0.5, abs=1e-3)
    changed.decode_head.conv_seg.bias.data[3] = torch.nan
    assert np.isnan(onnx_difference(changed, fcn_file, images))


def test_an_onnx_file_holds_one_graph_and_nothing_else(fcn, fcn_file):
    assert [path.name for path in fcn_file.parent.iterdir()] == ["fcn.onnx"]
    model = onnx.load(fcn_file)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import} == {"": OPSET}
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == METADATA
    (images,), (logits,) = model.graph.input, model.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    sizes = [[d.dim_value for d in port.type.tensor_type.shape.dim]
             for port in (images, logits)]  # fmt: skip
    assert sizes == [[1, 3, *SMALL], [1, 19, *SMALL]]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert all(node.op_type != "BatchNormalization" for node in model.graph.node)
    # Weights of body and decode head; of a folded norm, the bias alone is left.
    weights = {
        name: parameter.numel()
        for name, parameter in fcn.named_parameters()
        if parameter.ndim > 1 and not name.startswith("auxiliary")
    }
    stored = sum(np.prod(t.dims) for t in model.graph.initializer)
    assert sum(weights.values()) < stored < 1.01 * sum(weights.values())


def test_the_segmentor_is_left_as_it_was(tmp_path):
    model = build("r18-d16_fcn_1xb4-200_synthetic-streets-128x256").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    advice = resize.__defaults__
    export_program(model, SMALL, tmp_path / "model.pt2")
    program_difference(model, tmp_path / "model.pt2", draw_images(1, 3, *SMALL))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.auxiliary_head is not None
    assert resize.__defaults__ == advice
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_too_small_a_shape_is_refused_and_nothing_written(tmp_path):
    model = build("mobilenet-v3-d8_lraspp_4xb2-80k_cityscapes-512x1024")
    with pytest.raises(ValueError, match=r"does not run on an image of 64x96 pixels"):
        export_onnx(model, SMALL, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_program_runs_with_torch_alone(pspnet, tmp_path):
    export_program(pspnet, SMALL, tmp_path / "model.pt2", dynamic_shape=True)
    images = draw_images(2, 3, 65, 97)
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
    with torch.no_grad():
        expected = PictureSegmentor(pspnet)(images).numpy()
    assert abs(np.load(tmp_path / "logits.npy") - expected).max() < 1e-5


@pytest.mark.parametrize("bins", (1, 2, 3, 6, (2, 5), (None, 4)))
def test_matmul_pool_is_adaptive_pooling(bins):
    pool = nn.AdaptiveAvgPool2d(bins)
    for height, width in ((6, 6), (7, 13), (12, 18), (4, 5), (65, 97)):
        x = torch.randn(2, 3, height, width)
        torch.testing.assert_close(MatmulPool(pool)(x), pool(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {
                "model.decode_head.num_classes": 2,
                "model.decode_head.out_channels": 1,
                "model.decode_head.threshold": 0.3,
                "model.decode_head.loss_decode.use_sigmoid": True,
            },
            "out_channels=1: .* train it with num_classes=2",
        ),
        (
            {"model.data_preprocessor.test_cfg": dict(size_divisor=32)},
            r"test_cfg=.*32.* pads images.*data_preprocessor\.test_cfg=None",
        ),
    ],
    ids=["binary", "padded"],
)
def test_what_a_file_would_answer_otherwise_is_refused(options, message, tmp_path):
    model = build("dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256", **options)
    with pytest.raises(ValueError, match=message):
        export_onnx(model, SMALL, tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]
