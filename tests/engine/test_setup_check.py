"""Set-ups that do not fit together stop before they train."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint
from mmseg.models.backbones import MSCAN, MixVisionTransformer
from mmseg.models.decode_heads import (
    FCNHead,
    PointHead,
    STDCHead,
    VPDDepthHead,
    point_head,
)
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Subset

from mmseg_dynet import dynamize
from mmseg_dynet.cli import add_setup_check
from mmseg_dynet.engine import CheckSetupHook
from mmseg_dynet.engine.resume_check import check_settings
from mmseg_dynet.engine.weights_check import check_weights
from mmseg_dynet.models import DyMobileNetV2, DyResNet

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Segmentor(BaseModule):
    def __init__(self, backbone: nn.Module, **heads: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for name, head in heads.items():
            self.add_module(name, head)


def data(num_classes: int) -> BaseDataset:
    classes = [*map(str, range(num_classes))]
    return BaseDataset(metainfo=dict(classes=classes), lazy_init=True)


def concat(*datasets: BaseDataset) -> ConcatDataset:
    return ConcatDataset(datasets, lazy_init=True)


def check(model: nn.Module, dataset: object = (), **options: bool) -> None:
    loader = SimpleNamespace(dataset=dataset, sampler=None)
    loop = SimpleNamespace(dataloader=loader)
    runner = SimpleNamespace(model=model, train_loop=loop, val_loop=None)
    CheckSetupHook(**options).before_train(runner)


@pytest.mark.parametrize(
    "hooks",
    [None, {}, dict(check_setup=dict(strict_weights=False))],  # by --cfg-options
)
def test_any_config_gets_the_hook_with_its_options(hooks):
    cfg = Config(dict(default_hooks=hooks))
    add_setup_check(cfg)
    given = (hooks or {}).get("check_setup", {})
    assert cfg.default_hooks.check_setup == dict(type="CheckSetupHook", **given)


def test_none_takes_hooks_away():
    hooks = dict(check_setup=None, channels_last=None, logger=None)
    cfg = Config(dict(default_hooks=hooks))
    add_setup_check(cfg)
    assert cfg.default_hooks == dict(logger=None)


# init_cfg


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


def test_a_prefix_may_hold_that_of_a_wrapper(dy_mobile, tmp_path):
    weights = torch.load(dy_mobile)["state_dict"]
    path = str(tmp_path / "wrapped.pth")
    weights = {n.replace("backbone", "module.encoder_q"): w for n, w in weights.items()}
    save_checkpoint(dict(state_dict=weights), path)
    check(dy_mobile_from(path, "module.encoder_q", out_indices=(7,)))
    with pytest.raises(ValueError, match=r'begin with "module\.encoder_q\."'):
        check(dy_mobile_from(path, ""))


def test_weights_that_init_cfg_does_not_fill_are_named(dy_mobile, tmp_path):
    short = str(tmp_path / "short.pth")
    save_checkpoint(DyMobileNetV2(out_indices=(6,)).state_dict(), short)
    # A convolution and the norm's weight, bias, mean and variance.
    match = r"short\.pth, for backbone with prefix='', does.* 5 of \d+ weights"
    with pytest.raises(ValueError, match=match):
        check(dy_mobile_from(short, "", out_indices=(7,)))
    check(dy_mobile_from(short, "", out_indices=(7,)), strict_weights=False)
    with pytest.raises(ValueError, match=r"(\d+) of \1 weights.*stem.*strict_wei"):
        check(dy_mobile_from(dy_mobile, "encoder."))
    with pytest.raises(ValueError, match=r"stem\.conv\.weight"):
        check(nn.DataParallel(dy_mobile_from(dy_mobile, "backbone", widen_factor=0.5)))


def test_a_part_that_classifiers_lack_may_start_at_random(tmp_path):
    """As DDRNet's pyramid pooling."""
    path = str(tmp_path / "pretrained.pth")
    parts = dict(stem=nn.Conv2d(3, 4, 1), pyramid=nn.Conv2d(4, 4, 1))
    stem = nn.ModuleDict(dict(stem=parts["stem"])).state_dict()
    save_checkpoint(stem, path)

    class Parts(BaseModule):
        def __init__(self, stem: nn.Module, pyramid: nn.Module) -> None:
            super().__init__(dict(type="Pretrained", checkpoint=path))
            self.stem, self.pyramid = stem, pyramid

    check(Segmentor(Parts(**parts)))
    with pytest.raises(ValueError, match=r"1 of 4 weights.*\(stem\.weight\)"):
        check(Segmentor(Parts(**parts | dict(stem=nn.Conv2d(1, 4, 1)))))


@pytest.mark.parametrize("stages", [(3, 4), (1, 2, 3, 4)])
def test_all_stages_of_a_backbone_must_be_filled(tmp_path, stages):
    weights = DyResNet(18).state_dict()
    missing = tuple(f"layer{i}." for i in stages)
    kept = {n: w for n, w in weights.items() if not n.startswith(missing)}
    torch.save(kept, path := str(tmp_path / "short.pth"))
    init_cfg = dict(type="Pretrained", checkpoint=path)
    with pytest.raises(ValueError, match=rf"missing.*\({missing[0]}0\.conv1\.weight"):
        check(Segmentor(DyResNet(18, init_cfg=init_cfg)))


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (dict(depth=34), dict(depth=18)),
        (dict(depth=18, coefficients=dict(centred=True)), dict(depth=18)),
        (dict(depth=18, coefficients=dict(normaliser="softmax")), dict(depth=18)),
        (dict(depth=18), dict(depth=18, coefficients=dict(normaliser="softmax"))),
    ],
)
def test_other_networks_with_the_same_shapes_do_not_fit(source, target, partial):
    weights = DyResNet(base_channels=8, **source).state_dict()
    with pytest.raises(ValueError, match=r"a\.pth does not fit DyResNet"):
        backbone = DyResNet(base_channels=8, **target)
        check_weights(backbone, weights, "a.pth", partial)


def test_norms_of_outputs_may_start_at_random():
    """As those that ConvNeXt adds; its classifier has the last one only."""
    norms = {f"norm{i}": nn.BatchNorm2d(4) for i in range(2)}
    backbone = nn.ModuleDict(dict(stages=nn.ModuleList([nn.Conv2d(3, 4, 1)]), **norms))
    weights = {n: w for n, w in backbone.state_dict().items() if "norm0" not in n}
    check_weights(backbone, weights, "a.pth", partial=True)


def test_a_deep_stem_is_not_the_plain_one(tmp_path):
    """ImageNet's ResNet has one 7x7 convolution, MMSegmentation's three of 3x3."""
    path = str(tmp_path / "resnet.pth")
    save_checkpoint(nn.DataParallel(DyResNet(18)).state_dict(), path)
    init_cfg = [dict(type="Kaiming"), dict(type="Pretrained", checkpoint=path)]
    check(Segmentor(DyResNet(18, init_cfg=init_cfg)))
    with pytest.raises(ValueError, match=r"stem\.0\.weight"):
        check(Segmentor(DyResNet(18, deep_stem=True, init_cfg=init_cfg)))


@pytest.mark.parametrize("backbone", [MSCAN, MixVisionTransformer])
def test_weights_of_transformers_are_checked(backbone, tmp_path):
    path = str(tmp_path / "other.pth")
    save_checkpoint(DyResNet(18).state_dict(), path)
    init_cfg = dict(type="Pretrained", checkpoint=path)
    with pytest.raises(ValueError, match=r"(\d+) of \1 weights are missing"):
        check(Segmentor(backbone(init_cfg=init_cfg, norm_cfg=dict(type="BN"))))


def test_a_module_that_converts_its_checkpoint_is_left_alone():
    class Converting(BaseModule):
        def init_weights(self) -> None:
            pass

    init_cfg = dict(type="Pretrained", checkpoint="of another form.pth")
    check(Segmentor(Converting(init_cfg)))


# load_from


def head(num_classes: int, channels: int = 4, **options: object) -> FCNHead:
    with DefaultScope.overwrite_default_scope("mmseg"):
        return FCNHead(in_channels=4, channels=channels, num_classes=num_classes,
                       num_convs=1, norm_cfg=None, **options)  # fmt: skip


def points(num_classes: int) -> PointHead:
    with DefaultScope.overwrite_default_scope("mmseg"):
        return PointHead(
            in_channels=[4], in_index=[0], channels=8, num_classes=num_classes
        )


def test_classifiers_of_other_classes_fit(monkeypatch):
    monkeypatch.setattr(point_head, "point_sample", "compiled, which few hosts have")
    network = Segmentor(
        nn.Conv2d(3, 4, 1), decode_head=points(19), auxiliary_head=head(19)
    )
    other = Segmentor(nn.Conv2d(3, 4, 1), decode_head=points(5), auxiliary_head=head(5))
    check_weights(other, network.state_dict(), "a.pth", partial=True)
    with pytest.raises(ValueError, match=r"a\.pth does not fit Segmentor"):
        check_weights(other, network.state_dict(), "a.pth")
    wide = Segmentor(nn.Conv2d(3, 4, 1), auxiliary_head=head(5, channels=8))
    with pytest.raises(ValueError, match=r"5 of 8 weights.*convs\.0\.conv\.weight"):
        check_weights(wide, other.state_dict(), "a.pth", partial=True)


def test_a_kernel_is_not_a_number_of_classes():
    small, large = (
        Segmentor(nn.Conv2d(3, 4, 1), decode_head=head(2, kernel_size=size))
        for size in (1, 3)
    )
    with pytest.raises(ValueError, match=r"2 of 8.*convs\.0\.conv\.weight"):
        check_weights(large, small.state_dict(), "a.pth", partial=True)


def test_parts_may_be_missing_as_a_whole():
    network = Segmentor(nn.Conv2d(3, 4, 1), decode_head=head(5))
    weights = network.state_dict()
    backbone = {name: w for name, w in weights.items() if name[0] == "b"}
    check_weights(network, backbone, "a.pth", partial=True)
    del weights["decode_head.convs.0.conv.bias"]
    with pytest.raises(ValueError, match="1 of 8 weights are missing"):
        check_weights(network, weights, "a.pth", partial=True)
    with pytest.raises(ValueError, match="8 of 8 weights are missing"):
        check_weights(network, {"other": torch.ones(1)}, "a.pth", partial=True)


def load(
    model: nn.Module,
    checkpoint: dict,
    resume: bool = False,
    loaded: bool = False,
    **options: bool,
) -> None:
    """Load a checkpoint in a training, which may have loaded another one before."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    runner = SimpleNamespace(
        model=model, optim_wrapper=wrapper, cfg={}, _resume=resume, _has_loaded=loaded
    )
    CheckSetupHook(**options).after_load_checkpoint(runner, checkpoint)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_bare_static_backbone_fills_a_dynamized_one(resumed):
    static = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    checkpoint = dict(static.state_dict())
    model = Segmentor(dynamize(static, include=".*", from_static=True))
    load(model, checkpoint, resume=resumed, loaded=resumed)
    assert checkpoint["state_dict"].keys() < model.state_dict().keys()


def test_weights_under_model_go_where_mmengine_looks():
    model = nn.Conv2d(3, 4, 1)
    checkpoint = dict(model=model.state_dict())
    load(model, checkpoint)
    assert checkpoint["state_dict"].keys() == model.state_dict().keys()


def test_a_part_of_the_weights_starts_a_training_and_does_not_resume_one():
    model = Segmentor(nn.Conv2d(3, 4, 1), decode_head=head(5))
    weights = model.state_dict()
    backbone = {name: w for name, w in weights.items() if name[0] == "b"}
    load(model, dict(state_dict=backbone))
    with pytest.raises(ValueError, match="6 of 8 weights are missing"):
        load(model, dict(state_dict=backbone), resume=True)
    load(model, dict(state_dict={"other": torch.ones(1)}), strict_weights=False)


# Classes


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        (data(4), ""),
        (RepeatDataset(data(4), 2, lazy_init=True), ".dataset"),
        (concat(data(4), data(4)), ".datasets.0"),
        (Subset(concat(data(4), data(4)), [0]), ".dataset.datasets.0"),
    ],
    ids=["plain", "repeat", "concat", "nested"],
)
def test_classes_of_wrapped_data_are_found(dataset, place):
    heads = nn.ModuleList([head(4), head(5)])
    option, key = r"model\.decode_head\.1\.num_classes", "train_dataloader.dataset"
    match = rf"{option} is 5, but {key}{place} \(.*\) has 4 classes: set {option}=4"
    with pytest.raises(ValueError, match=match):
        check(Segmentor(nn.Identity(), decode_head=heads), dataset)
    check(Segmentor(nn.Identity(), decode_head=heads), dataset, strict_classes=False)
    model = Segmentor(nn.Identity(), decode_head=heads[0])
    check(model, dataset)
    loader = SimpleNamespace(dataset=data(2))
    with pytest.raises(ValueError, match=r"test_dataloader\.dataset \(.*has 2 classes"):
        CheckSetupHook().before_test(
            SimpleNamespace(model=model, test_dataloader=loader)
        )


def test_data_without_classes_and_heads_of_edges_or_depths_pass():
    check(Segmentor(nn.Identity(), decode_head=head(5)), [0])
    with torch.device("meta"):
        check(Segmentor(nn.Identity(), decode_head=VPDDepthHead()), data(27))
    with DefaultScope.overwrite_default_scope("mmseg"):
        edges = STDCHead(0.1, in_channels=4, channels=4, num_classes=2, num_convs=1,
                         concat_input=False)  # fmt: skip
    check(Segmentor(nn.Identity(), decode_head=head(5), edges=edges), data(5))


@pytest.mark.parametrize("num_classes", [1, 2])
def test_one_channel_under_a_sigmoid_tells_two_classes_apart(num_classes):
    loss = dict(type="CrossEntropyLoss", use_sigmoid=True)
    binary = head(num_classes, out_channels=1, loss_decode=loss)
    check(Segmentor(nn.Identity(), decode_head=binary), data(2))


@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "OhemCrossEntropy"])
@pytest.mark.parametrize(
    "options", [dict(num_classes=1), dict(num_classes=2, out_channels=1)]
)
def test_one_class_under_softmax_is_refused(loss, options):
    one = head(**options, loss_decode=[dict(type=loss)])
    model = Segmentor(nn.Identity(), decode_head=one)
    with pytest.raises(ValueError, match="has one output channel under softmax"):
        check(model, data(options["num_classes"]))


# Resuming


def resume(optimizer: Optimizer, group: dict) -> None:
    runner = SimpleNamespace(
        optim_wrapper=OptimWrapper(optimizer),
        param_schedulers=None,
        logger=logging.getLogger(),
    )
    saved = dict(state={}, param_groups=[group]) if group else dict(head={}, rest={})
    check_settings(runner, dict(meta={}, message_hub={}, optimizer=saved))


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_the_optimizer_of_a_checkpoint_is_the_configs(momentum):
    weights = [nn.Parameter(torch.ones(1))]
    sgd = torch.optim.SGD(weights, lr=0.1, momentum=momentum)
    adam = torch.optim.AdamW(weights)
    resume(sgd, torch.optim.SGD(weights, lr=0.2).param_groups[0])
    # Adam of torch 2.1 has fewer settings.
    switches = {"decoupled_weight_decay", "fused", "foreach", "amsgrad"}
    older = {k: v for k, v in adam.param_groups[0].items() if k not in switches}
    resume(adam, older)
    with pytest.raises(ValueError, match="is not AdamW, since it has no betas, eps"):
        resume(adam, sgd.param_groups[0])
    with pytest.raises(ValueError, match="not SGD, since it has no dampening, mom"):
        resume(sgd, older)
    with pytest.raises(ValueError, match="not SGD"):
        resume(sgd, {})  # but several


@pytest.mark.parametrize("saved", [dict(meta={}), dict(meta={}, message_hub={})])
def test_weights_alone_are_not_resumed(saved):
    """The second is what MMEngine saves of the best weights."""
    with pytest.raises(ValueError, match="optimizer: a training cannot be resumed"):
        check_settings(SimpleNamespace(), saved)
