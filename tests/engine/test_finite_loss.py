"""A loss or a weight that is not finite stops the training."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner, get_priority
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_dynet.engine import FiniteLossHook, SafeCheckpointHook
from mmseg_dynet.engine.checkpoint import find_newest, load_from_file

ROOT = Path(__file__).parents[2]
RUNNER = SimpleNamespace(iter=56)  # the iteration with number 57


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_stops(value):
    sample = SegDataSample(metainfo=dict(img_path="streets/a.png"))
    outputs = {
        "decode.loss_ce": torch.tensor(float(value)),
        "decode.acc_seg": torch.tensor(3.0),
        "note": "text",
    }
    with pytest.raises(
        FloatingPointError,
        match=rf"iteration 57 ended with decode.loss_ce={value}: .*streets/a\.png\. "
        r".*optimizer\.lr",
    ):
        FiniteLossHook().after_train_iter(
            RUNNER, 56, dict(data_samples=[sample]), outputs
        )


def test_finite_ones_pass():
    hook = FiniteLossHook()
    hook.after_train_iter(RUNNER, 56, None, {"loss": torch.tensor(1e30)})
    hook.after_train_iter(RUNNER, 56)
    weights = {"a": torch.ones(2), "num_batches_tracked": torch.tensor(3)}
    hook.before_save_checkpoint(RUNNER, dict(state_dict=weights))


def test_weights_that_are_not_finite_are_not_saved():
    weights = {f"w{i}": torch.full((2, 2), float("inf")) for i in range(6)}
    weights["fine"] = torch.ones(1)
    with pytest.raises(
        FloatingPointError,
        match=r"^6 weights are not finite .*\(w0, w1, w2, w3, w4, \.\.\.\)",
    ):
        FiniteLossHook().before_save_checkpoint(RUNNER, dict(state_dict=weights))


@pytest.mark.parametrize("runtime", ["default_runtime", "imagenet_runtime"])
def test_it_is_asked_before_a_checkpoint_is_written(runtime):
    assert get_priority(FiniteLossHook.priority) < get_priority(
        SafeCheckpointHook.priority
    )
    path = ROOT / f"configs/_base_/{runtime}.py"
    # Not by Config, which would import what the runtime needs, mmpretrain.
    custom_hooks = runpy.run_path(str(path))["custom_hooks"]
    assert "FiniteLossHook" in [hook["type"] for hook in custom_hooks]


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
    runner = Runner(
        Diverging(),
        work_dir=str(tmp_path),
        train_dataloader=dict(dataset=[dict(x=0)], sampler=dict(type="DefaultSampler")),
        train_cfg=dict(by_epoch=False, max_iters=5),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
        default_hooks=dict(
            checkpoint=dict(type=SafeCheckpointHook, interval=1, by_epoch=False)
        ),
        custom_hooks=[dict(type=FiniteLossHook)],
        experiment_name="diverging",
    )
    with pytest.raises(FloatingPointError, match="iteration 3 ended with loss=nan"):
        runner.train()
    newest = find_newest(tmp_path)
    assert newest == tmp_path / "iter_2.pth"
    assert load_from_file(str(newest))["state_dict"]["steps"] == 2
