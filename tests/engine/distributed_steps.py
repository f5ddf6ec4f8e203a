"""Train a few steps, alone or as one of several processes; write losses and weights.

    python distributed_steps.py OUT PROCESSES [OPTION...]
    torchrun --nproc-per-node 2 distributed_steps.py OUT 1 [OPTION...]

Each of the PROCESSES batches of a step belongs to one process: alone, a process takes
all of them as one batch. Options: accumulate, bfloat16, float16 (on a GPU, which all
processes share), with_cp, compile, dynamized (ResNet in place of DyResNet).
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.apis import load_config

CONFIG = "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
NUM_STEPS = 4
NUM_CLASSES = 19


def build_model(options: list[str]) -> nn.Module:
    """Without dropout, and with batch norms that keep their statistics."""
    cfg = load_config(Path(__file__).parents[2] / CONFIG)
    cfg.model.backbone.with_cp = "with_cp" in options
    if "dynamized" in options:
        static = dict(cfg.model.backbone, type="ResNet", base_channels=32)
        cfg.model.backbone = dict(type="Dynamized", module=static)
    cfg.model.decode_head.dropout_ratio = cfg.model.auxiliary_head.dropout_ratio = 0
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def batch(step: int, processes: range, device: str) -> dict:
    """What the processes see in a step: two images each."""
    images, samples = [], []
    for process in processes:
        generator = torch.Generator().manual_seed(100 * step + process)
        images.append(torch.randn(2, 3, 32, 64, generator=generator))
        labels = torch.randint(NUM_CLASSES, (2, 1, 32, 64), generator=generator)
        samples += [
            SegDataSample(gt_sem_seg=PixelData(data=label.to(device)))
            for label in labels
        ]
    return dict(inputs=torch.cat(images).to(device), data_samples=samples)


def optim_wrapper(options: list[str]) -> dict:
    """The config of the precision that the options ask for."""
    if "float16" in options:
        return dict(type="AmpOptimWrapper", loss_scale=512.0)
    if "bfloat16" in options:
        return dict(type="BFloat16OptimWrapper", emulate=True)
    return dict(type="OptimWrapper")


def main() -> None:
    """Train."""
    out, num_batches, *options = sys.argv[1:]
    rank, processes = 0, range(int(num_batches))
    device = "cuda" if "float16" in options else "cpu"
    model = build_model(options).to(device)
    model.data_preprocessor = nn.Identity()
    model.data_preprocessor.forward = lambda data, training: data
    wrapped = model
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
        processes = range(rank, rank + 1)
        # No find_unused_parameters: DDP would wait forever for one that is not used.
        wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    if "compile" in options:
        model.backbone.compile(backend="aot_eager")
    wrapper = build_optim_wrapper(
        wrapped,
        dict(
            **optim_wrapper(options),
            optimizer=dict(type="SGD", lr=0.05, momentum=0.9),
            accumulative_counts=2 if "accumulate" in options else 1,
        ),
    )
    wrapper.initialize_count_status(wrapped, 0, NUM_STEPS)
    losses = []
    for step in range(NUM_STEPS):
        log = wrapped.train_step(batch(step, processes, device), wrapper)
        loss = log["loss"].detach()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(loss)
            loss /= torch.distributed.get_world_size()
        losses.append(loss.item())
    if rank == 0:
        torch.save(dict(losses=losses, weights=model.state_dict()), out)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # none leaves before the others are done
        torch.distributed.destroy_process_group()
        os._exit(0)  # DDP, freed without its group, now and then waits forever


if __name__ == "__main__":
    main()
