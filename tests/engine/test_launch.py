"""Two processes learn what one does from both of their batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmseg_dynet.engine import launch
from mmseg_dynet.engine.launch import prepare_launch

ROOT = Path(__file__).parents[2]
STEPS = Path(__file__).with_name("distributed_steps.py")
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
PYTHON = (sys.executable, "-W", "ignore")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
COMPILED = (pytest.mark.recent_torch, pytest.mark.slow)


def call(command: list, **variables: str) -> None:
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    env = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=path) | variables
    done = subprocess.run(
        [*map(str, command)], env=env, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ("accumulate with_cp", 1e-5),
        ("dynamized with_cp", 1e-5),
        pytest.param("compile", 1e-5, marks=COMPILED),
        pytest.param("bfloat16 compile with_cp accumulate", 2e-2, marks=COMPILED),
        pytest.param("float16 accumulate with_cp", 2e-2, marks=pytest.mark.gpu),
    ],
)
def test_two_processes_are_one_with_both_batches(options, tolerance, tmp_path):
    call([*PYTHON, STEPS, tmp_path / "alone.pth", 2, *options.split()])
    call([*PYTHON, *TORCHRUN, STEPS, tmp_path / "both.pth", 1, *options.split()])
    alone, both = (torch.load(tmp_path / f"{name}.pth") for name in ("alone", "both"))
    assert both["losses"] == pytest.approx(alone["losses"], rel=tolerance)
    assert alone["losses"][-1] < alone["losses"][0]
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(
            both["weights"][name], weight, rtol=tolerance, atol=tolerance, msg=name
        )


def test_the_training_tool_runs_in_two_processes_on_cpus(tiny_cityscapes, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    # torchrun lies beside the interpreter of the tests.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    call(["bash", ROOT / "tools/dist_train.sh", CONFIG, 2,
          "--work-dir", tmp_path, "--cfg-options", "train_cfg.max_iters=2",
          "train_cfg.val_interval=2", "train_dataloader.batch_size=2",
          "default_hooks.checkpoint.interval=2",
          *(f"{split}_dataloader.dataset.data_root={tiny_cityscapes}"
            for split in ("train", "val", "test"))],
         CUDA_VISIBLE_DEVICES="", PATH=path, PORT=str(port))  # fmt: skip
    (log,) = tmp_path.glob("*/*.log")
    text = log.read_text()
    assert "Distributed training: True" in text
    assert "type='SyncBN'" not in text
    assert "Iter(val) [2/2]" in text  # of the four images, two per process
    weights = torch.load(tmp_path / "iter_2.pth", weights_only=False)["state_dict"]
    assert next(iter(weights)).startswith("backbone.")


def pretend(monkeypatch, variables: dict[str, str]) -> list[str]:
    """Give this process a launcher's variables and no GPU; list what it connects by."""
    backends = []
    monkeypatch.setattr(os, "environ", os.environ | variables)
    monkeypatch.setattr(launch, "get_device", lambda: "cpu")
    monkeypatch.setattr(torch.distributed, "init_process_group", backends.append)
    return backends


@pytest.mark.parametrize(
    ("launcher", "names"),
    [
        ("slurm", "SLURM_PROCID SLURM_LOCALID SLURM_NTASKS"),
        ("mpi", "OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_SIZE"),
    ],
)
def test_other_launchers_run_on_cpus(launcher, names, monkeypatch):
    values = ("3", "1", "4")  # rank, rank on this machine, processes
    backends = pretend(monkeypatch, dict(zip(names.split(), values, strict=True)))
    prepare_launch(Config(dict(launcher=launcher)))
    assert backends == ["gloo"]
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
    assert [os.environ[name] for name in names] == [*values, "29500"]


DDP = dict(type="MMDistributedDataParallel", broadcast_buffers=False)
UNUSED = dict(find_unused_parameters=True)
MINE = dict(type="Mine", device_ids=[1], static_graph=True)


@pytest.mark.parametrize(
    ("options", "wrapper"),
    [(UNUSED, DDP | UNUSED), (dict(model_wrapper_cfg=MINE), MINE)],
)
def test_a_config_is_made_fit_for_cpus(options, wrapper, monkeypatch):
    pretend(monkeypatch, {})
    norm = dict(type="SyncBN", requires_grad=True)
    norms = dict(norm=norm, by_class=dict(type=nn.SyncBatchNorm))
    cfg = Config(dict(launcher="pytorch", sync_bn="torch", **norms, **options))
    prepare_launch(cfg)
    assert cfg.model_wrapper_cfg == dict(wrapper, device_ids=None)
    assert cfg.norm == dict(type="BN", requires_grad=True)
    assert cfg.by_class == dict(type="BN")
    assert "sync_bn" not in cfg
