"""A validation logs what NumPy says of all coefficients that were predicted in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import HOOKS
from mmseg.registry import DATASETS
from torch import nn

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.models import DyShuffleNetV2
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
SHARES = ("between_image_share", "dead", "saturated")
NAMES = ("mean", "between_image_std", *SHARES)


def test_training_logs_coefficients_beside_the_miou(synthetic_streets, tmp_path):
    subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/train.py", CONFIG,
         "--work-dir", tmp_path, "--cfg-options",
         "default_hooks.coefficients.type=CoefficientHook",
         "default_hooks.coefficients.per_layer=True",
         "train_cfg.max_iters=2", "train_cfg.val_interval=2",
         "train_dataloader.batch_size=2", "default_hooks.checkpoint.interval=2",
         f"train_dataloader.dataset.data_root={synthetic_streets}",
         f"val_dataloader.dataset.data_root={synthetic_streets}",
         f"test_dataloader.dataset.data_root={synthetic_streets}",
         "val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
    )  # fmt: skip
    (log,) = tmp_path.glob("*/vis_data/scalars.json")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    (record,) = [r for r in records if "mIoU" in r]
    assert record["step"] == 2

    cfg = load_config(str(CONFIG))
    cfg.val_dataloader.dataset.data_root = str(synthetic_streets)
    model = build_model(cfg, str(tmp_path / "iter_2.pth"))
    kept = {name: [] for name, m in model.named_modules() if is_predictor(m)}
    for name, coeffs in kept.items():
        model.get_submodule(name).register_forward_hook(
            lambda _, __, out, coeffs=coeffs: coeffs.append(
                [coeff.double().flatten().numpy() for coeff in out]
            )
        )
    with torch.no_grad():
        for sample in DATASETS.build(cfg.val_dataloader.dataset):
            model.test_step(pseudo_collate([sample]))

    # Images x all coefficients of the network, and x those of one layer.
    network = np.hstack([[np.concatenate(out) for out in c] for c in kept.values()])
    conv2 = np.stack([out[1] for out in kept["backbone.layer4.0.predictor"]])
    assert network.shape[0] == conv2.shape[0] == 4
    for prefix, coeffs in {"": network, "backbone.layer4.0.conv2/": conv2}.items():
        logged = {name: record[f"coefficients/{prefix}{name}"] for name in NAMES}
        assert logged["mean"] == pytest.approx(coeffs.mean(), rel=1e-5)
        between = coeffs.std(0).mean()
        assert logged["between_image_std"] == pytest.approx(between, rel=1e-3)
        assert logged["dead"] == (coeffs < 0.05).all(0).mean()
        assert logged["saturated"] == (coeffs > 0.95).all(0).mean()
    assert logged["between_image_share"] == pytest.approx(
        between / conv2.std(), rel=1e-3
    )
    num_layers = sum(len(out[0]) for out in kept.values())
    coefficients = [name for name in record if name.startswith("coefficients/")]
    assert len(coefficients) == (1 + num_layers) * len(NAMES)


def is_predictor(module: nn.Module) -> bool:
    return isinstance(module, CoefficientPredictor)


def run_of(model: nn.Module) -> SimpleNamespace:
    """What the hook needs of a runner, and ``scalars`` that it has logged."""
    scalars = {}
    hub = SimpleNamespace(update_scalar=scalars.__setitem__)
    return SimpleNamespace(model=model, message_hub=hub, scalars=scalars)


def test_each_validation_of_a_wrapped_model_has_its_own_images():
    model = nn.Sequential(DyConv2d(1, 1, 1, num_kernels=1))
    nn.init.ones_(model[0].predictor.logits.weight)
    nn.init.zeros_(model[0].predictor.logits.bias)
    runner = run_of(nn.DataParallel(model))
    hook = HOOKS.build(dict(type="CoefficientHook"))
    hook.before_train(runner)
    with torch.no_grad():
        for values in ((0.0, 1.0), (2.0, 4.0)):
            hook.before_val(runner)
            hook.before_val_epoch(runner)
            images = torch.tensor(values).reshape(2, 1, 1, 1)
            model(images)
            hook.after_val_epoch(runner, metrics={})
            model(torch.full((1, 1, 1, 1), 9.0))  # goes on with its training
            low, high = images.sigmoid().flatten().tolist()
            assert runner.scalars == pytest.approx(
                {
                    "val/coefficients/mean": (low + high) / 2,
                    "val/coefficients/between_image_std": (high - low) / 2,
                    "val/coefficients/between_image_share": 1,
                    "val/coefficients/dead": 0,
                    "val/coefficients/saturated": 0,
                }
            )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("stage", ["before_train", "before_val"])
def test_a_static_network_is_refused_before_it_runs(stage):
    hook = HOOKS.build(dict(type="CoefficientHook"))
    runner = run_of(nn.DataParallel(DyShuffleNetV2(num_kernels=None)))
    with pytest.raises(ValueError, match="DyShuffleNetV2, which is static"):
        getattr(hook, stage)(runner)
