"""Launched training: what MMEngine's launchers leave open, and training on CPUs."""

import os

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dist import all_gather_object, init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing

PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
MEETING = ("MASTER_ADDR", "MASTER_PORT")

# What launchers call the variables that describe a process.
NAMES = {
    "pytorch": PROCESS,
    "slurm": ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
    "mpi": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_SIZE",
    ),
}
REMEDIES = {
    "pytorch": "start the tool by torchrun, as tools/dist_train.sh does",
    "slurm": "start the tool by srun, with MASTER_ADDR set to the host of task 0",
    "mpi": "start the tool by Open MPI's mpirun -x MASTER_ADDR=HOST, the host of "
    "process 0",
}


def set_variables(launcher: str) -> None:
    """Give the variables of a launcher the names that torchrun uses.

    MMEngine does not give ``LOCAL_RANK`` for MPI, and all processes of a machine would
    use its first GPU.

    Args:
        launcher: "pytorch", "slurm" or "mpi".
    """
    for name, given in zip(PROCESS, NAMES[launcher], strict=True):
        if given in os.environ:
            os.environ[name] = os.environ[given]
    if launcher != "pytorch":
        os.environ.setdefault("MASTER_PORT", "29500")  # MMEngine's


def launch_on_cpus(cfg: Config) -> None:
    """Join the processes that a launcher has started, where there is no GPU.

    MMEngine would ask for a GPU first. It leaves processes alone that are already
    connected, so they are connected here, by gloo, and the config is made fit: the
    wrapper of the model, the config's own too, names no device, and SyncBN, which
    exists on GPUs only, becomes BN, so that statistics are those of a process's own
    images.

    Args:
        cfg: Of a run with a launcher, whose variables are set; changed in place.

    Raises:
        ValueError: Variables that the launcher sets are missing.
    """
    needed = (*NAMES[cfg.launcher], *MEETING)
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise ValueError(
            f"--launcher {cfg.launcher} without {', '.join(missing)}: "
            f"{REMEDIES[cfg.launcher]}"
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    wrapper = cfg.get("model_wrapper_cfg")
    if wrapper is None:  # as MMEngine's
        wrapper = dict(
            type="MMDistributedDataParallel",
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    cfg.pop("sync_bn", None)
    _replace_sync_bn(list(cfg.values()))


def connect(cfg: Config) -> None:
    """Join the processes that a launcher has started, as the Runner would later.

    Args:
        cfg: Of a run with a launcher, whose variables are set.
    """
    if not is_distributed():
        processes = cfg.env_cfg.get("mp_cfg", {})
        set_multi_processing(**processes, distributed=True)  # warns, if it is second
        init_dist(cfg.launcher, **cfg.env_cfg.get("dist_cfg", {}))


def check_agreement(what: str, value: object) -> None:
    """Raise a ValueError in every process unless all have the same value.

    Args:
        what: Its description, for the error.
        value: Of this process.
    """
    values = all_gather_object(value)
    if any(other != values[0] for other in values):
        found = ", ".join(f"{v!r} in process {rank}" for rank, v in enumerate(values))
        raise ValueError(
            f"the processes differ in {what}: {found}. Several machines need one work "
            "dir, on storage that they share"
        )


def _replace_sync_bn(node: object) -> None:
    """Turn SyncBN into BN in all nested dicts and lists."""
    if isinstance(node, dict):
        if node.get("type") == "SyncBN":
            node["type"] = "BN"
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            _replace_sync_bn(child)
