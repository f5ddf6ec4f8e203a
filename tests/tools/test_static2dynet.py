"""Convert checkpoints through the tool, and load what it writes as a config does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import save_checkpoint
from mmseg.models.backbones import MobileNetV3, ResNet
from torch import nn

from mmseg_dynet.apis import build_model

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/model_converters/static2dynet.py"
STATIC = ROOT / "configs/dynet/r18-d16_fcn_1xb4-2k_camvid-240x320.py"
NARROW = dict(
    backbone=dict(base_channels=8),
    decode_head=dict(in_channels=64, channels=16),
    auxiliary_head=dict(in_channels=32, channels=8),
)


def run_tool(*arguments: object, fails: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", TOOL, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout[-2000:] + done.stderr
    return done.stderr if fails else done.stdout


def config_with(model: dict) -> Config:
    cfg = Config.fromfile(STATIC)
    cfg.merge_from_dict(dict(model=NARROW))
    cfg.merge_from_dict(dict(model=model))
    return cfg


def converted_config(printed: str, **options) -> Config:
    """The static config, with the backbone that the tool has printed."""
    (backbone,) = re.findall(r"^backbone=(dict\(.*\))$", printed, re.M)
    return config_with(dict(backbone=eval(backbone) | options))


@pytest.fixture
def segmentor(draw_norms, tmp_path):
    """A static segmentor, and its checkpoint as a run of MMEngine writes it."""
    torch.manual_seed(0)
    model = build_model(config_with({}))
    draw_norms(model)
    nn.init.normal_(model.decode_head.conv_seg.weight)  # the host's is nearly zero
    path = tmp_path / "iter_1.pth"
    content = dict(
        meta=dict(iter=1, dataset_meta=dict(classes=("sky", "road"))),
        state_dict=model.state_dict(),
        message_hub=dict(log_scalars={"train/loss": HistoryBuffer([0.5], [1])}),
    )
    save_checkpoint(content, str(path))
    return model, path


def test_a_segmentor_computes_what_it_did(segmentor, tmp_path):
    static, path = segmentor
    out = tmp_path / "new/dynamic.pth"
    printed = run_tool(path, out, "--num-kernels", 3)
    assert "ResNet 18" in printed
    assert "auxiliary_head, decode_head" in printed
    banks = [w for w in torch.load(out)["state_dict"].values() if w.ndim == 5]
    assert re.search(rf"made dynamic\s+\| {len(banks)} ", printed)
    assert f"| {sum(map(torch.numel, banks)) / 1e6:.2f} " in printed

    cfg = converted_config(printed)
    dynamic = build_model(cfg, str(out))  # every weight, as load_from
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = static(x)
        torch.testing.assert_close(dynamic(x), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1

    pretrained = dict(type="Pretrained", checkpoint=str(out), prefix="backbone.")
    alone = build_model(converted_config(printed, init_cfg=pretrained))
    alone.init_weights()
    for ours, theirs in zip(alone.backbone(x), static.backbone(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    content = torch.load(out)
    assert content["meta"] == dict(dataset_meta=dict(classes=("sky", "road")))
    again = tmp_path / "again.pth"
    run_tool(path, again, "--num-kernels", 3)
    assert again.read_bytes() == out.read_bytes()


def test_a_backbone_for_each_network_that_it_may_be(tmp_path):
    path = tmp_path / "mobilenet.pth"
    torch.save(MobileNetV3("small").state_dict(), path)
    printed = run_tool(path, tmp_path / "out.pth", "--num-kernels", 1)
    of_mmseg, doubt, of_mmpretrain = printed.splitlines()[-3:]
    options = "type='DyMobileNetV3', arch='small', num_kernels=1"
    assert of_mmseg == f"backbone=dict({options})"
    assert "mmpretrain" in doubt
    assert of_mmpretrain == (
        f"backbone=dict({options}, norm_cfg={{'type': 'BN', 'eps': 0.001, "
        "'momentum': 0.01}, same_padding=False)"
    )


def test_an_error_is_one_line_and_nothing_is_written(tmp_path):
    path = tmp_path / "part.pth"
    weights = ResNet(18, base_channels=8).state_dict()
    del weights["layer1.0.bn1.weight"]
    torch.save(weights, path)
    error = run_tool(path, tmp_path / "out.pth", fails=True)
    assert "error: the weights were taken for ResNet 18" in error
    assert "where layer1.0.bn1.weight (8,) is expected" in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == [path]
