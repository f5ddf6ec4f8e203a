"""The small hooks: what they log, keep, lay out and stop."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_dynet.analysis.coefficients import CoefficientRecorder, average
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.engine import FiniteLossHook, SafeCheckpointHook
from mmseg_dynet.engine.checkpoint import find_newest
from mmseg_dynet.models import DyResNet, DyShuffleNetV2
from mmseg_dynet.ops import DyConv2d


def hook_of(name: str, **options: object) -> object:
    return HOOKS.build(dict(type=name, **options))


def train(model: nn.Module, work_dir: Path, iterations: int, **options: object) -> None:
    """Train with a checkpoint in each iteration."""
    checkpoint = dict(type=SafeCheckpointHook, interval=1, by_epoch=False)
    Runner(
        model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=[dict(x=0)] * 5, sampler=dict(type="DefaultSampler")
        ),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
        default_hooks=dict(checkpoint=checkpoint),
        experiment_name=f"{type(model).__name__}-{iterations}",
        **options,
    ).train()


# ChannelsLastHook


def test_weights_change_their_format_and_not_their_values():
    torch.manual_seed(0)
    model = DyResNet(18, base_channels=8).eval()
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        expected = model(x)
    hook_of("ChannelsLastHook").before_run(
        SimpleNamespace(model=nn.DataParallel(model))
    )
    bank = model.layer1[0].conv1.weight
    for weight in (model.conv1.weight, bank.flatten(0, 1)):
        assert weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for out, before in zip(model(x), expected, strict=True):
            assert out.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(out, before, rtol=1e-4, atol=1e-4)


# CoefficientHook


def test_training_logs_coefficients_beside_the_miou(run_tool, write_config):
    config = write_config("dy-")
    run_tool("train.py", config, "--work-dir", "run", "--cfg-options",
             "default_hooks.coefficients.type=CoefficientHook")  # fmt: skip
    (log,) = Path("run").glob("*/vis_data/scalars.json")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    (record,) = [r for r in records if "mIoU" in r]

    cfg = load_config(config)
    model = build_model(cfg, "run/iter_2.pth")
    with CoefficientRecorder(model) as recorder, torch.no_grad():
        for sample in DATASETS.build(cfg.val_dataloader.dataset):
            model.test_step(pseudo_collate([sample]))
    expected = average(recorder.summarize())
    logged = {name: record[f"coefficients/{name}"] for name in expected}
    assert logged == pytest.approx(expected, rel=1e-3)


def test_each_validation_of_a_wrapped_model_has_its_own_images():
    model = nn.Sequential(DyConv2d(1, 1, 1, num_kernels=1))
    nn.init.ones_(model[0].predictor.logits.weight)
    nn.init.zeros_(model[0].predictor.logits.bias)
    scalars = {}
    runner = SimpleNamespace(
        model=nn.DataParallel(model),
        message_hub=SimpleNamespace(update_scalar=scalars.__setitem__),
    )
    hook = hook_of("CoefficientHook")
    with torch.no_grad():
        for values in ((0.0, 1.0), (2.0, 4.0)):
            hook.before_val_epoch(runner)
            images = torch.tensor(values).reshape(2, 1, 1, 1)
            model(images)
            hook.after_val_epoch(runner, metrics={})
            model(torch.full((1, 1, 1, 1), 9.0))  # training continues
            low, high = images.sigmoid().flatten().tolist()
            assert scalars["val/coefficients/mean"] == pytest.approx((low + high) / 2)
            assert scalars["val/coefficients/between_image_std"] == pytest.approx(
                (high - low) / 2
            )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("stage", ["before_train", "before_val"])
def test_a_static_network_is_refused_before_it_runs(stage):
    runner = SimpleNamespace(model=nn.DataParallel(DyShuffleNetV2(num_kernels=None)))
    with pytest.raises(ValueError, match="DyShuffleNetV2 is static"):
        getattr(hook_of("CoefficientHook"), stage)(runner)


# TemperatureHook


class Softmax(nn.Module):
    """A model that notes the temperature of each of its steps."""

    def __init__(self) -> None:
        super().__init__()
        options = dict(normaliser="softmax")
        self.conv = DyConv2d(1, 1, 1, num_kernels=2, coefficients=options)
        self.seen = []

    def train_step(self, data: object, optim_wrapper: OptimWrapper) -> dict:
        self.seen.append(self.conv.predictor.temperature.item())
        loss = self.conv(torch.ones(1, 1, 2, 2)).square().mean()
        optim_wrapper.update_params(loss)
        return {"loss": loss}


def test_the_temperature_falls_linearly_and_a_resumed_run_goes_on(tmp_path):
    seen = []
    for max_iters in (2, 5):  # the second run resumes the first
        model = Softmax()
        hooks = [dict(type="TemperatureHook", iterations=3),
                 dict(type="EMAHook", update_buffers=True)]  # fmt: skip
        train(model, tmp_path, max_iters, custom_hooks=hooks, resume=max_iters == 5)
        seen += model.seen
    assert seen == pytest.approx([30, 20 + 1 / 3, 10 + 2 / 3, 1, 1])
    newest = torch.load(find_newest(tmp_path), weights_only=False)
    assert newest["state_dict"]["conv.predictor.temperature"] == 1
    assert newest["ema_state_dict"]["module.conv.predictor.temperature"] == 1


def test_a_temperature_hook_wants_a_temperature():
    runner = SimpleNamespace(model=DyConv2d(1, 1, 1), hooks=[])
    with pytest.raises(ValueError, match="normaliser='softmax'"):
        hook_of("TemperatureHook", iterations=1).before_train(runner)
    with pytest.raises(ValueError, match="end=0 must be positive"):
        hook_of("TemperatureHook", iterations=1, end=0)


# FiniteLossHook

RUNNER = SimpleNamespace(iter=56, model=nn.BatchNorm1d(2))  # iteration 57


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_stops(value):
    sample = SegDataSample(metainfo=dict(img_path="streets/a.png"))
    outputs = {"decode.loss_ce": torch.tensor(float(value)), "note": "text"}
    with pytest.raises(
        FloatingPointError,
        match=rf"iteration 57 ended with decode\.loss_ce={value} \(images: "
        r"streets/a\.png\).*optim_wrapper\.clip_grad=dict\(max_norm=1\)",
    ):
        FiniteLossHook().after_train_iter(
            RUNNER, 56, dict(data_samples=[sample]), outputs
        )


def test_other_values_may_be_infinite():
    hook = FiniteLossHook()
    outputs = {"loss": torch.tensor(1e30), "psnr": torch.tensor(float("inf"))}
    hook.after_train_iter(RUNNER, 56, None, outputs)
    hook.after_train_iter(RUNNER, 56)
    weights = RUNNER.model.state_dict()
    hook.before_save_checkpoint(RUNNER, dict(state_dict=weights))
    buffers = {"running_mean": torch.tensor([torch.nan, -torch.inf])}
    hook.before_save_checkpoint(RUNNER, dict(state_dict=weights | buffers))
    match = r"1 parameters are NaN or .*\(weight\).*optim_wrapper\.clip_grad="
    for value in (torch.nan, -torch.inf):
        parameters = {"weight": torch.tensor([1, value])}
        with pytest.raises(FloatingPointError, match=match):
            hook.before_save_checkpoint(RUNNER, dict(state_dict=weights | parameters))


class Diverging(nn.Module):
    """A model that counts its steps, to a loss that is NaN in the third."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(()))

    def train_step(self, data: object, optim_wrapper: OptimWrapper) -> dict:
        loss = -self.steps * (1.0 if self.steps < 2 else float("nan"))
        optim_wrapper.update_params(loss)
        return {"loss": loss}


def test_the_last_checkpoint_is_from_before_the_divergence(tmp_path):
    with pytest.raises(FloatingPointError, match="iteration 3 ended with loss=nan"):
        train(Diverging(), tmp_path, 5, custom_hooks=[dict(type=FiniteLossHook)])
    assert find_newest(tmp_path) == str(tmp_path / "iter_2.pth")
