"""Kernels are kept while a run validates or tests, and only then."""

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
from mmengine.runner import save_checkpoint
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import DATASETS
from PIL import Image
from torch import nn

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config
from mmseg_dynet.deploy.kernel_reuse import KernelReuse
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


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


def runner_of(model: nn.Module, batch_size: int = 1) -> SimpleNamespace:
    loader = SimpleNamespace(batch_size=batch_size)
    return SimpleNamespace(model=model, val_dataloader=loader, test_dataloader=loader)


@pytest.mark.parametrize("loop", ["val", "test"])
def test_kernels_are_kept_in_each_loop_of_a_wrapped_model(loop):
    torch.manual_seed(0)
    model = DyConv2d(3, 4, 3)
    frames = torch.rand(2, 1, 3, 8, 8)
    runner = runner_of(nn.DataParallel(model))
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
    runner = runner_of(SegTTAModel(module=segmentor))
    hook = HOOKS.build(dict(type="KernelReuseHook", every=2))
    with pytest.raises(ValueError, match="leave out --tta"):
        hook.before_test_epoch(runner)


def test_kernels_are_not_kept_from_window_to_window():
    cfg = load_config(str(CONFIG))
    cfg.model.test_cfg = dict(mode="slide", crop_size=(64, 64), stride=(32, 32))
    runner = runner_of(build_model(cfg))
    hook = HOOKS.build(dict(type="KernelReuseHook", every=2))
    with pytest.raises(ValueError, match=r"windows.*model\.test_cfg\.mode=whole"):
        hook.before_val_epoch(runner)


@pytest.mark.parametrize("loop", ["val", "test"])
def test_kernels_are_not_kept_from_place_to_place_of_a_batch(loop):
    hook = HOOKS.build(dict(type="KernelReuseHook", every=2))
    with pytest.raises(ValueError, match=r"4 frames at a time.*\.batch_size=1"):
        getattr(hook, f"before_{loop}_epoch")(runner_of(DyConv2d(3, 4, 3), 4))
