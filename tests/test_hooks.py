"""Weights that a checkpoint does not fill stop a run; a test can keep kernels."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModule
from mmengine.registry import HOOKS
from mmengine.runner import save_checkpoint
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import DATASETS
from PIL import Image
from torch import nn

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.deploy.kernel_reuse import KernelReuse
from mmseg_dynet.models import DyMobileNetV2, DyResNet
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/fcn/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


class Segmentor(BaseModule):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def check(model: nn.Module) -> None:
    hook = HOOKS.build(dict(type="CheckPretrainedHook"))
    hook.before_train(SimpleNamespace(model=model))


@pytest.fixture
def dy_mobile(tmp_path):
    """A checkpoint of a classifier with Dy-mobile's last stage."""
    path = str(tmp_path / "dy_mobile.pth")
    model = Segmentor(DyMobileNetV2(out_indices=(7,)))
    save_checkpoint(dict(state_dict=model.state_dict()), path)
    return path


def dy_mobile_from(checkpoint: str, prefix: str, **options) -> nn.Module:
    init_cfg = dict(type="Pretrained", checkpoint=checkpoint, prefix=prefix)
    return Segmentor(DyMobileNetV2(init_cfg=init_cfg, **options))


@pytest.mark.parametrize("prefix", ["backbone", "backbone."])
def test_stages_that_are_not_built_do_not_matter(dy_mobile, prefix):
    model = dy_mobile_from(dy_mobile, prefix, out_indices=(1, 6))
    check(model)
    # Not the check, but what it vouches for.
    model.init_weights()
    source = torch.load(dy_mobile)["state_dict"]
    assert all(torch.equal(source[n], w) for n, w in model.state_dict().items())


def test_a_missing_stage_and_a_wrong_prefix_are_named(tmp_path):
    path = str(tmp_path / "short.pth")
    source = Segmentor(DyMobileNetV2(out_indices=(6,)))
    save_checkpoint(dict(state_dict=source.state_dict()), path)
    # A convolution and the norm's weight, bias, mean and variance.
    with pytest.raises(ValueError, match=r"backbone, DyMobileNetV2.* 5 of \d+ weights"):
        check(dy_mobile_from(path, "backbone.", out_indices=(7,)))
    total = r"(\d+) of \1 weights.*stem.conv.weight.*, \.\.\..*CheckPretrainedHook"
    with pytest.raises(ValueError, match=total):
        check(dy_mobile_from(path, "encoder.", out_indices=(7,)))


def test_another_width_is_another_shape(dy_mobile):
    with pytest.raises(ValueError, match=r"stem\.conv\.weight"):
        check(dy_mobile_from(dy_mobile, "backbone.", widen_factor=0.5))


def test_a_deep_stem_is_not_the_plain_one(tmp_path):
    """ImageNet's ResNet has one 7x7 convolution, MMSegmentation's three of 3x3."""
    path = str(tmp_path / "resnet.pth")
    save_checkpoint(DyResNet(18).state_dict(), path)
    init_cfg = dict(type="Pretrained", checkpoint=path)
    check(Segmentor(DyResNet(18, init_cfg=init_cfg)))
    with pytest.raises(ValueError, match=r"15 of \d+ weights.*stem\.0\.weight"):
        check(Segmentor(DyResNet(18, deep_stem=True, init_cfg=init_cfg)))


def test_other_initialisations_and_modules_without_any_pass(dy_mobile):
    check(nn.Sequential(nn.Linear(2, 2), DyMobileNetV2()))
    check(nn.Sequential(BaseModule(init_cfg=[dict(type="Normal", layer="Linear")])))


def test_a_list_of_initialisations_and_a_wrapped_model_are_looked_into(dy_mobile):
    pretrained = dict(type="Pretrained", checkpoint=dy_mobile, prefix="backbone.")
    init_cfg = [dict(type="Kaiming", layer="Conv2d"), pretrained]
    model = Segmentor(DyMobileNetV2(widen_factor=0.5, init_cfg=init_cfg))
    with pytest.raises(ValueError, match="does not fit backbone"):
        check(nn.DataParallel(model))


def test_a_checkpoint_of_a_wrapped_model_fits(tmp_path):
    path = str(tmp_path / "wrapped.pth")
    save_checkpoint(nn.DataParallel(DyMobileNetV2()).state_dict(), path)
    assert next(iter(torch.load(path))).startswith("module.")
    check(Segmentor(DyMobileNetV2(init_cfg=dict(type="Pretrained", checkpoint=path))))


def test_kernels_are_kept_while_the_test_tool_runs(synthetic_streets, tmp_path):
    cfg = load_config(str(CONFIG))
    cfg.test_dataloader.dataset.data_root = str(synthetic_streets)
    torch.manual_seed(0)
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, CoefficientPredictor):
            module.logits.weight.data *= 30  # so that streets differ in their kernels
    save_checkpoint(dict(state_dict=model.state_dict()), str(tmp_path / "model.pth"))
    subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/test.py", CONFIG, "model.pth",
         "--work-dir", "test", "--out", "predictions", "--cfg-options",
         "default_hooks.kernel_reuse.type=KernelReuseHook",
         "default_hooks.kernel_reuse.every=3",
         f"test_dataloader.dataset.data_root={synthetic_streets}",
         "test_dataloader.num_workers=0",
         "test_dataloader.persistent_workers=False"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, check=True,
    )  # fmt: skip

    def predict(model: nn.Module) -> list[np.ndarray]:
        samples = [s for d in frames for s in model.test_step(pseudo_collate([d]))]
        return [s.pred_sem_seg.data.squeeze().numpy() for s in samples]

    frames = list(DATASETS.build(cfg.test_dataloader.dataset))
    with torch.no_grad():
        plain = predict(model)
        with KernelReuse(model, every=3):
            kept = predict(model)
    files = sorted((tmp_path / "predictions").glob("*.png"))
    tested = [np.asarray(Image.open(file)) for file in files]
    same_as = [
        [np.array_equal(*pair) for pair in zip(tested, expected, strict=True)]
        for expected in (kept, plain)
    ]
    assert same_as == [[True] * 4, [True, False, False, True]]


@pytest.mark.parametrize("loop", ["val", "test"])
def test_kernels_are_kept_in_each_loop_of_a_wrapped_model(loop):
    torch.manual_seed(0)
    model = DyConv2d(3, 4, 3)
    frames = torch.rand(2, 1, 3, 8, 8)
    runner = SimpleNamespace(model=nn.DataParallel(model))
    hook = HOOKS.build(dict(type="KernelReuseHook", every=2))
    with torch.no_grad():
        plain = [model(frame) for frame in frames]
        for _ in range(2):
            getattr(hook, f"before_{loop}_epoch")(runner)
            model.eval()
            kept = [model(frame) for frame in frames]
            getattr(hook, f"after_{loop}_epoch")(runner, metrics={})
            assert [*map(torch.equal, kept, plain)] == [True, False]
            assert all(map(torch.equal, map(model.train(), frames), plain))


def test_kernels_are_not_kept_between_views_of_a_frame():
    segmentor = build_model(load_config(str(CONFIG)))
    runner = SimpleNamespace(model=SegTTAModel(module=segmentor))
    hook = HOOKS.build(dict(type="KernelReuseHook", every=2))
    with pytest.raises(ValueError, match="leave out --tta"):
        hook.before_test_epoch(runner)
