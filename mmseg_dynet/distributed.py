"""Launched training on CPUs, which MMEngine's launcher does not know."""

import os

import torch
import torch.distributed
from mmengine.config import Config

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launch_on_cpus(cfg: Config) -> None:
    """Join the processes that torchrun has started, where there is no GPU.

    MMEngine would ask for a GPU first. It leaves processes alone that are already
    connected, so they are connected here, by gloo, and the config is made fit: the
    wrapper of the model names no device, and SyncBN, which exists on GPUs only, becomes
    BN, so that statistics are those of a process's own images.

    Args:
        cfg: Of a run with ``launcher="pytorch"``; changed in place.

    Raises:
        ValueError: The variables that torchrun sets are missing.
    """
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(
            f"--launcher pytorch without {', '.join(missing)}: start the tool by "
            "torchrun, as tools/dist_train.sh does"
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    cfg.model_wrapper_cfg = dict(
        type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False
    )
    _replace_sync_bn(list(cfg.values()))


def _replace_sync_bn(node: object) -> None:
    """Turn SyncBN into BN in all nested dicts and lists."""
    if isinstance(node, dict):
        if node.get("type") == "SyncBN":
            node["type"] = "BN"
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            _replace_sync_bn(child)
