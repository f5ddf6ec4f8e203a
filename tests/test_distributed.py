"""Two processes learn what one does from both of their batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
STEPS = ROOT / "tests/distributed_steps.py"
CONFIG = ROOT / "configs/fcn/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(*arguments: object, **variables: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ((), 1e-5),
        (("accumulate", "with_cp"), 1e-5),
        pytest.param(("compile",), 1e-5, marks=pytest.mark.recent_torch),
        pytest.param(
            ("bfloat16", "accumulate", "compile"), 2e-2, marks=pytest.mark.recent_torch
        ),
    ],
    ids=["float32", "accumulate", "compile", "bfloat16"],
)
def test_two_processes_are_one_with_both_batches(options, tolerance, tmp_path):
    run(STEPS, tmp_path / "alone.pth", 2, *options)
    run(*TORCHRUN, STEPS, tmp_path / "both.pth", 1, *options)
    alone, both = (torch.load(tmp_path / f"{name}.pth") for name in ("alone", "both"))
    assert both["losses"] == pytest.approx(alone["losses"], rel=tolerance)
    assert alone["losses"][-1] < alone["losses"][0]
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(
            both["weights"][name], weight, rtol=tolerance, atol=tolerance, msg=name
        )


def test_the_training_tool_runs_in_two_processes_on_cpus(synthetic_streets, tmp_path):
    run(*TORCHRUN, ROOT / "tools/train.py", CONFIG, "--launcher", "pytorch",
        "--work-dir", tmp_path, "--cfg-options", "train_cfg.max_iters=2",
        "train_cfg.val_interval=2", "train_dataloader.batch_size=2",
        "default_hooks.checkpoint.interval=2",
        *(f"{split}_dataloader.dataset.data_root={synthetic_streets}"
          for split in ("train", "val", "test")))  # fmt: skip
    (log,) = tmp_path.glob("*/*.log")
    text = log.read_text()
    assert "Distributed training: True" in text
    assert "GPU number: 2" in text
    assert "type='SyncBN'" not in text
    assert "Iter(val) [2/2]" in text  # of the four streets, two a process
    weights = torch.load(tmp_path / "iter_2.pth", weights_only=False)["state_dict"]
    assert next(iter(weights)).startswith("backbone.")
