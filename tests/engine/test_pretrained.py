"""Weights that a checkpoint does not fill stop a run before it trains."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import HOOKS
from mmengine.runner import save_checkpoint
from torch import nn

from mmseg_dynet.engine.pretrained import check_weights
from mmseg_dynet.models import DyMobileNetV2, DyResNet


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
    with pytest.raises(
        ValueError, match=r"^backbone, .*fit DyMobileNetV2.* 5 of \d+ weights"
    ):
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
    with pytest.raises(ValueError, match=r"^backbone, .* does not fit DyMobileNetV2"):
        check(nn.DataParallel(model))


def test_a_checkpoint_of_a_wrapped_model_fits(tmp_path):
    path = str(tmp_path / "wrapped.pth")
    save_checkpoint(nn.DataParallel(DyMobileNetV2()).state_dict(), path)
    assert next(iter(torch.load(path))).startswith("module.")
    check(Segmentor(DyMobileNetV2(init_cfg=dict(type="Pretrained", checkpoint=path))))


def test_a_file_whose_weights_mmengine_does_not_find_lacks_all(tmp_path):
    """As those of torchvision's scripts, which keep them under "model"."""
    path, model = str(tmp_path / "model.pth"), nn.Conv2d(1, 1, 1)
    torch.save(dict(model=model.state_dict(), epoch=3), path)
    with pytest.raises(ValueError, match="lacks 2 of 2 weights"):
        check_weights(model, path)
