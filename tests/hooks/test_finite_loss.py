"""A loss or a weight that is not finite stops the training."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import get_priority
from mmseg.structures import SegDataSample

from mmseg_dynet.hooks import FiniteLossHook, SafeCheckpointHook

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
        match=r"after 57 iterations 6 weights .*\(w0, w1, w2, w3, w4, \.\.\.\)",
    ):
        FiniteLossHook().before_save_checkpoint(RUNNER, dict(state_dict=weights))


def test_it_is_asked_before_a_checkpoint_is_written():
    assert get_priority(FiniteLossHook.priority) < get_priority(
        SafeCheckpointHook.priority
    )
    runtime = Config.fromfile(ROOT / "configs/_base_/default_runtime.py")
    assert "FiniteLossHook" in [hook.type for hook in runtime.custom_hooks]
