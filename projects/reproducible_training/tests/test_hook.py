"""A run that was interrupted ends as one that was not, bit by bit."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


def train(work_dir: Path, iterations: int, streets: Path, *arguments: str) -> dict:
    """Train, and read the checkpoint at the end.

    Only a new training is given a seed: one that resumes goes on with it.
    """
    seed = [] if "--resume" in arguments else ["randomness.seed=3"]
    subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/train.py", CONFIG,
         "--work-dir", work_dir, *arguments, "--cfg-options", *seed,
         f"train_cfg.max_iters={iterations}", "train_cfg.val_interval=1",
         "train_dataloader.batch_size=2", "default_hooks.checkpoint.interval=1",
         "default_hooks.checkpoint.save_best=mIoU",
         f"train_dataloader.dataset.data_root={streets}",
         f"val_dataloader.dataset.data_root={streets}",
         f"test_dataloader.dataset.data_root={streets}",
         "val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
    )  # fmt: skip
    path = work_dir / f"iter_{iterations}.pth"
    return torch.load(path, weights_only=False)


def test_a_resumed_run_is_the_one_that_was_not_interrupted(tiny_cityscapes, tmp_path):
    whole = train(tmp_path / "whole", 3, tiny_cityscapes)
    train(tmp_path / "halves", 1, tiny_cityscapes)
    resumed = train(tmp_path / "halves", 3, tiny_cityscapes, "--resume")
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, resumed["state_dict"][name]), name
    assert torch.equal(whole["random_state"]["cpu"], resumed["random_state"]["cpu"])


def test_the_best_checkpoint_has_the_random_state_of_training(
    tiny_cityscapes, tmp_path
):
    """It is saved in validation, whose loader draws random numbers."""
    trained = train(tmp_path, 1, tiny_cityscapes)
    best = torch.load(tmp_path / "best_mIoU_iter_1.pth", weights_only=False)
    assert torch.equal(best["random_state"]["cpu"], trained["random_state"]["cpu"])
