"""Two processes learn what one does from both of their batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmseg_dynet.engine.launch import (
    NAMES,
    check_agreement,
    launch_on_cpus,
    set_variables,
)

ROOT = Path(__file__).parents[1]
STEPS = ROOT / "tests/distributed_steps.py"
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
DDP = "MMDistributedDataParallel"
COMPILED = pytest.mark.recent_torch
ON_A_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="float16 is trained on GPUs"
)


def run(*arguments: object, fails: bool = False, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables,
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    output = done.stdout[-2000:] + done.stderr[-4000:]
    assert (done.returncode != 0) == fails, output
    return output


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ("", 1e-5),
        ("accumulate with_cp", 1e-5),
        pytest.param("compile", 1e-5, marks=COMPILED),
        pytest.param("compile with_cp", 1e-5, marks=COMPILED),
        ("bfloat16 with_cp", 2e-2),
        pytest.param("bfloat16 compile accumulate", 2e-2, marks=COMPILED),
        pytest.param("float16 accumulate with_cp", 2e-2, marks=ON_A_GPU),
    ],
)
def test_two_processes_are_one_with_both_batches(options, tolerance, tmp_path):
    run(STEPS, tmp_path / "alone.pth", 2, *options.split())
    run(*TORCHRUN, STEPS, tmp_path / "both.pth", 1, *options.split())
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
          for split in ("train", "val", "test")), CUDA_VISIBLE_DEVICES="")  # fmt: skip
    (log,) = tmp_path.glob("*/*.log")
    text = log.read_text()
    assert "Distributed training: True" in text
    assert "GPU number: 2" in text
    assert "type='SyncBN'" not in text
    assert "Iter(val) [2/2]" in text  # of the four streets, two a process
    weights = torch.load(tmp_path / "iter_2.pth", weights_only=False)["state_dict"]
    assert next(iter(weights)).startswith("backbone.")


# Wraps a model as the Runner does, and says who it is and how many there are.
LAUNCHED = """
import sys
from argparse import Namespace

import torch
from mmengine.registry import MODEL_WRAPPERS

from mmseg_dynet.cli import load_run_config

config, launcher = sys.argv[1:]
cfg = load_run_config(Namespace(
    config=config, launcher=launcher, work_dir=None, local_rank=0,
    cfg_options={"model_wrapper_cfg.type": "MMDistributedDataParallel",
                 "model_wrapper_cfg.find_unused_parameters": True}))
model = MODEL_WRAPPERS.build(cfg.model_wrapper_cfg, default_args=dict(
    module=torch.nn.Linear(1, 1), device_ids=[0]))
assert model.device_ids is None and model.find_unused_parameters
rank = torch.tensor(torch.distributed.get_rank())
ranks = [torch.empty_like(rank) for _ in range(torch.distributed.get_world_size())]
torch.distributed.all_gather(ranks, rank)
print("rank", rank.item(), "of", [r.item() for r in ranks])
torch.distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("launcher", ["slurm", "mpi"])
def test_other_launchers_run_on_cpus(launcher):
    outside = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", LAUNCHED, CONFIG, launcher],
            env=outside | dict(zip(NAMES[launcher], (rank, rank, "2"), strict=True)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    for rank, process in enumerate(started):
        said, error = process.communicate(timeout=120)
        assert process.returncode == 0, error[-4000:]
        assert f"rank {rank} of [0, 1]" in said


@pytest.fixture
def no_launcher(monkeypatch):
    """Without the variables of any launcher, and without their process group."""
    for names in (*NAMES.values(), ("MASTER_ADDR", "MASTER_PORT")):
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda _: None)


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        ("pytorch", "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, .* by torchrun"),
        ("slurm", "SLURM_PROCID, SLURM_LOCALID, SLURM_NTASKS, MASTER_ADDR: .* by srun"),
        ("mpi", "_RANK, .*_LOCAL_RANK, .*_SIZE, MASTER_ADDR: .* by Open MPI's mpirun"),
    ],
)
def test_missing_variables_are_named(launcher, message, no_launcher, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "")  # restored afterwards
    monkeypatch.delenv("MASTER_PORT")
    set_variables(launcher)
    with pytest.raises(ValueError, match=f"--launcher {launcher} without .*{message}"):
        launch_on_cpus(Config(dict(launcher=launcher)))


@pytest.mark.parametrize(
    ("options", "wrapper"),
    [
        ({}, dict(type=DDP, broadcast_buffers=False, find_unused_parameters=False)),
        (
            dict(find_unused_parameters=True),
            dict(type=DDP, broadcast_buffers=False, find_unused_parameters=True),
        ),
        (
            dict(
                model_wrapper_cfg=dict(type="Mine", device_ids=[1], static_graph=True)
            ),
            dict(type="Mine", static_graph=True),
        ),
    ],
)
def test_a_config_keeps_its_wrapper_on_cpus(options, wrapper, no_launcher, monkeypatch):
    for name in (*NAMES["pytorch"], "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    norm = dict(type="SyncBN", requires_grad=True)
    cfg = Config(dict(launcher="pytorch", sync_bn="torch", norm=norm, **options))
    launch_on_cpus(cfg)
    assert cfg.model_wrapper_cfg == wrapper | dict(device_ids=None)
    assert cfg.norm == dict(type="BN", requires_grad=True)
    assert "sync_bn" not in cfg


APART = """
import os
import runpy
import sys

sys.argv += ["--work-dir", "machine" + os.environ["RANK"]]
sys.path.insert(0, os.path.dirname(sys.argv[1]))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_machines_that_would_start_from_different_checkpoints_stop(
    synthetic_streets, tmp_path, monkeypatch
):
    """Before anything else that they do together, which would wait for ever."""
    monkeypatch.chdir(tmp_path)
    Path("apart.py").write_text(APART)
    Path("machine0").mkdir()
    torch.save(dict(state_dict={}, meta=dict(seed=1)), "machine0/iter_7.pth")
    output = run(*TORCHRUN, "apart.py", ROOT / "tools/train.py", CONFIG, "--resume",
                 "--launcher", "pytorch", "--cfg-options",
                 *(f"{split}_dataloader.dataset.data_root={synthetic_streets}"
                   for split in ("train", "val", "test")),
                 fails=True, CUDA_VISIBLE_DEVICES="")  # fmt: skip
    assert "differ in the checkpoint that training goes on from" in output
    assert "'iter_7.pth' in process 0, None in process 1" in output


def test_a_single_process_agrees_with_itself():
    check_agreement("anything", object())
