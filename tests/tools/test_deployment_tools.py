"""Export networks, segment with what was exported, and convert static weights."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import save_checkpoint
from mmseg.datasets import CityscapesDataset
from mmseg.models.backbones import MobileNetV3, ResNet
from PIL import Image
from torch import nn

from mmseg_dynet.apis import build_model, load_config

ROOT = Path(__file__).parents[2]


def without_torch_and_host(monkeypatch: pytest.MonkeyPatch, script: str, *arguments):
    """Run a script that may import neither PyTorch nor the host nor this package."""
    packages = ("torch", "mmseg", "mmcv", "mmengine", "mmseg_dynet")
    for name in [*sys.modules]:
        if name.partition(".")[0] in packages:
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(script, run_name="__main__")


@pytest.mark.recent_torch
@pytest.mark.parametrize(
    ("file", "binary"), [("street.onnx", True), ("street.xml", False)]
)
def test_an_image_is_segmented_without_torch_and_the_host(
    file, binary, run_tool, write_config, save_weights, monkeypatch, capsys
):
    from mmseg_dynet.deploy import export

    pytest.importorskip("onnxruntime" if file.endswith(".onnx") else "openvino")
    config = write_config("dy-", grey=binary, binary=binary)
    weights = save_weights(config)
    printed = run_tool("deployment/export.py", config, "--shape", 64, 96, "--out",
                       file, "--checkpoint", weights)  # fmt: skip
    channels = 1 if binary else 3
    row = rf"difference at 1 x {channels} x 64 x 96\s*\|\s*(\S+)"
    assert float(re.findall(row, printed)[0]) < 1e-4

    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save("street.png")
    image = Image.fromarray(pixels).convert("L" if binary else "RGB")
    images = np.asarray(image).reshape(64, 96, -1).transpose(2, 0, 1)[None].copy()
    model = build_model(load_config(str(config)), str(weights))
    (logits,) = export.run_segmentor(model, torch.from_numpy(images))
    if binary:
        labels = (logits[0].sigmoid() > 0.4).long().numpy()
    else:
        labels = logits.argmax(0).numpy()
    palette = np.array(CityscapesDataset.METAINFO["palette"], np.uint8)
    script = str(ROOT / "tools/deployment/segment_image.py")
    with monkeypatch.context() as patch:
        without_torch_and_host(patch, script, file, "street.png", "mask.png")
        Image.fromarray(pixels).resize((48, 40)).save("small.png")
        without_torch_and_host(patch, script, file, "small.png", "small_mask.png")
    with Image.open("small_mask.png") as mask:
        assert mask.size == (48, 40)
    mask = np.asarray(Image.open("mask.png"))
    assert (mask != palette[labels]).any(2).mean() < 1e-3  # ties, by rounding
    shares = [float(s) for s in re.findall(r"([\d.]+)%", capsys.readouterr().out)]
    assert shares[0] == pytest.approx(
        100 * np.bincount(labels.ravel()).max() / labels.size, abs=0.15
    )


@pytest.mark.recent_torch
def test_a_model_that_differs_is_not_written(run_tool, write_config, monkeypatch):
    from mmseg_dynet.deploy import export

    export_model = export.export

    def export_another(model: nn.Module, *arguments: object) -> None:
        export_model(model, *arguments)
        model.decode_head.conv_seg.bias.data[3] += 1e-3

    pipeline = [dict(type="LoadImageFromFile"), dict(type="mmseg.CLAHE")]
    config = write_config("", **{"test_dataloader.dataset.pipeline": pipeline})
    arguments = (config, "--shape", 64, 96, "--dynamic-shape", "--out")
    printed = run_tool("deployment/export.py", *arguments, "equal.pt2")
    for shape in ("1 x 3 x 64 x 96", "2 x 3 x 73 x 119", "3 x 3 x 88 x 110"):
        assert f"difference at {shape}" in printed
    assert re.search(r"not in the file\s*\| CLAHE: apply", printed)
    monkeypatch.setattr(export, "export", export_another)
    with pytest.raises(SystemExit, match=r"other\.pt2 is not written: at 1 x 3 x 64"):
        run_tool("deployment/export.py", *arguments, "other.pt2")
    names = sorted(path.name for path in config.parent.iterdir())
    assert names == sorted([config.name, "equal.pt2"])


def test_a_static_segmentor_becomes_dynamic(
    run_tool, write_config, draw_norms, tmp_path
):
    config = write_config("")
    torch.manual_seed(0)
    static = build_model(load_config(str(config)))
    draw_norms(static)
    nn.init.normal_(static.decode_head.conv_seg.weight)  # the host's is nearly zero
    content = dict(
        meta=dict(iter=1, dataset_meta=dict(classes=("sky", "road"))),
        state_dict=static.state_dict(),
        message_hub=dict(log_scalars={"train/loss": HistoryBuffer([0.5], [1])}),
    )
    save_checkpoint(content, "iter_1.pth")
    tool = "model_converters/static2dynet.py"
    printed = run_tool(tool, "iter_1.pth", "new/dynamic.pth", "--num-kernels", 3)
    assert "ResNet 18" in printed
    assert "backbone, decode_head, auxiliary_head" in printed
    assert torch.load("new/dynamic.pth")["meta"] == {
        "dataset_meta": {"classes": ("sky", "road")}
    }
    (backbone,) = re.findall(r"^backbone=(dict\(.*\))$", printed, re.M)
    cfg = load_config(str(config), {"model.backbone": eval(backbone)})
    dynamic = build_model(cfg, "new/dynamic.pth")
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = static(x)
        torch.testing.assert_close(dynamic(x), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1
    run_tool(tool, "iter_1.pth", "again.pth", "--num-kernels", 3)
    assert Path("again.pth").read_bytes() == Path("new/dynamic.pth").read_bytes()


def test_a_backbone_is_printed_for_each_network_that_it_may_be(run_tool):
    torch.save(MobileNetV3("small").state_dict(), "mobilenet.pth")
    printed = run_tool("model_converters/static2dynet.py", "mobilenet.pth", "out.pth",
                       "--num-kernels", 1)  # fmt: skip
    of_mmseg, doubt, of_mmpretrain = printed.splitlines()[-3:]
    options = "type='DyMobileNetV3', arch='small', num_kernels=1"
    assert of_mmseg == f"backbone=dict({options})"
    assert "mmpretrain" in doubt
    assert of_mmpretrain == (
        f"backbone=dict({options}, norm_cfg={{'type': 'BN', 'eps': 0.001, "
        "'momentum': 0.01}, same_padding=False)"
    )


def test_coefficients_may_be_predicted_in_another_way(run_tool):
    torch.save(ResNet(18, base_channels=8).state_dict(), "resnet.pth")
    printed = run_tool("model_converters/static2dynet.py", "resnet.pth", "out.pth",
                       "--coefficients", "static_kernel=True")  # fmt: skip
    assert "coefficients={'static_kernel': True}" in printed
    bank = torch.load("out.pth")["state_dict"]["backbone.layer1.0.conv1.weight"]
    assert bank[:, 0].any() and not bank[:, 1:].any()


def test_weights_that_are_incomplete_are_named_and_nothing_is_written(
    run_tool, tmp_path
):
    weights = ResNet(18, base_channels=8).state_dict()
    del weights["layer1.0.bn1.weight"]
    torch.save(weights, "part.pth")
    with pytest.raises(SystemExit, match=r"error: .*layer1\.0\.bn1\.weight"):
        run_tool("model_converters/static2dynet.py", "part.pth", "out.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["part.pth"]
