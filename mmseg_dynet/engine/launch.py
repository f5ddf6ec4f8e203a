"""Prepare distributed training: variables of launchers, and training on CPUs."""

import os

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from torch.nn import SyncBatchNorm

GPUS = ("cuda", "npu", "mlu", "musa")  # where MMEngine distributes, and has AMP
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
VARIABLES = {
    "pytorch": TORCHRUN,
    "slurm": ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
    "mpi": tuple(f"OMPI_COMM_WORLD_{n}" for n in ("RANK", "LOCAL_RANK", "SIZE")),
}
"""What each launcher calls the variables that torchrun sets."""


def prepare_launch(cfg: Config) -> None:
    """Prepare a process that a launcher has started for MMEngine's Runner.

    It gets torchrun's variables. MMEngine sets no ``LOCAL_RANK`` for MPI, so that all
    processes of a machine would use its first GPU. Without any GPU, where MMEngine
    would ask for one, the processes are connected by gloo. The config, which names its
    ``launcher``, is changed in place.

    Raises:
        ValueError: On CPUs: a variable of torch.distributed is missing.
    """
    for name, given in zip(TORCHRUN, VARIABLES[cfg.launcher], strict=True):
        if given in os.environ:
            os.environ[name] = os.environ[given]
    os.environ.setdefault("MASTER_PORT", "29500")  # MMEngine's default
    if get_device() not in GPUS:
        _launch_on_cpus(cfg)


def _launch_on_cpus(cfg: Config) -> None:
    """Connect the processes, and remove what exists on GPUs only.

    MMEngine keeps an existing connection. The wrapper of the model must not name a
    device, and SyncBN becomes BN, with the statistics of each process's own images.
    """
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    wrapper = cfg.get("model_wrapper_cfg") or dict(  # else MMEngine's default
        type="MMDistributedDataParallel",
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    cfg.pop("sync_bn", None)
    _replace_sync_bn(list(cfg.values()))


def _replace_sync_bn(node: object) -> None:
    if isinstance(node, dict):
        if node.get("type") in ("SyncBN", SyncBatchNorm):
            node["type"] = "BN"
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            _replace_sync_bn(child)
