"""Look into trained networks: by collection, and with fixed coefficients.

Takes each run of train.py that has a result and a checkpoint, and tests its network on
whole validation images, by collection. The coefficients of a dynamic network are then
fixed at their mean over the training images, which makes it static, and it is tested
again: as it is, and with its batch norms fitted to the fixed coefficients; at last with
batch norms fitted likewise, and coefficients as predicted. Start it in the root of the
repository; results/diagnosis/ gets a file per run.
"""

import json
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

import torch
from evaluation import collection_of, images_of, mean_iou, test
from mmengine.config import Config
from mmengine.runner import Runner, set_random_seed
from rich.progress import track
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle
from train import FOLDER, describe_commit, runs_with_checkpoints

from mmseg_dynet.analysis.coefficients import (
    CoefficientRecorder,
    average,
    dynamic_layers,
)
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.files import replacing

NORM_BATCHES = 200  # of training crops, to fit batch norms


@contextmanager
def fixed(model: nn.Module, coefficients: Mapping[str, Tensor]) -> Iterator[None]:
    """Give dynamic layers coefficients (O, K), by their names, in the block."""

    def fix(name: str, coeff: Tensor) -> RemovableHandle:
        coeff = coeff.float()

        def replace(_: nn.Module, args: tuple, __: dict) -> tuple[tuple, dict]:
            x = args[0]
            return (x, coeff.expand(len(x), -1, -1)), {}

        layer = model.get_submodule(name)
        return layer.register_forward_pre_hook(replace, with_kwargs=True)

    hooks = [fix(name, coeff) for name, coeff in coefficients.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def fit_norms(cfg: Config, model: nn.Module) -> None:
    """Set the running statistics of batch norms to their means over training crops."""
    set_random_seed(0)  # of crops
    crops = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batches = track(islice(crops, NORM_BATCHES), "norms", NORM_BATCHES)
    update_bn((model.data_preprocessor(b, True)["inputs"] for b in batches), model)


def test_without_prediction(cfg: Config, model: nn.Module, val: DataLoader) -> dict:
    """The mIoU with fixed coefficients, and with fitted batch norms."""
    with CoefficientRecorder(model) as train_recorder:
        test(cfg, model, images_of(cfg, cfg.train_dataloader.dataset))
    with fixed(model, train_recorder.means()):
        fixed_miou = mean_iou(test(cfg, model, val).values())
        fit_norms(cfg, model)
        fixed_fitted_miou = mean_iou(test(cfg, model, val).values())
    fit_norms(cfg, model)
    fitted_miou = mean_iou(test(cfg, model, val).values())
    return {
        "fixed_mIoU": fixed_miou,
        "fixed_fitted_mIoU": fixed_fitted_miou,
        "fitted_mIoU": fitted_miou,
    }


@torch.no_grad()
def diagnose(run: dict, checkpoint: Path) -> dict:
    """The network of a run by collection, and its coefficients if it has any."""
    cfg = load_config(FOLDER / "configs" / run["config"])
    model = build_model(cfg, str(checkpoint))
    val = images_of(cfg, cfg.val_dataloader.dataset)
    is_dynamic = bool(dynamic_layers(model))
    with CoefficientRecorder(model) if is_dynamic else nullcontext() as recorder:
        areas = test(cfg, model, val)
    collections = defaultdict(int)
    for path, area in areas.items():
        collections[collection_of(path)] += area
    outcome = {key: run[key] for key in ("arm", "network", "dataset", "seed")}
    outcome["mIoU"] = mean_iou(areas.values())
    if is_dynamic:
        outcome |= test_without_prediction(cfg, model, val)
        summary = average(recorder.summarize())
        for key in ("between_image_std", "between_image_share"):
            outcome[key] = round(summary[key], 4)
    outcome["areas"] = {name: a.tolist() for name, a in sorted(collections.items())}
    return outcome


def main() -> None:
    """Diagnose all runs that have not been diagnosed."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work-dirs", type=Path, default=Path("work_dirs/evidence"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for run, checkpoint in runs_with_checkpoints(args.work_dirs):
        result = FOLDER / "results/diagnosis" / f"{checkpoint.parent.name}.json"
        if not result.exists():
            origin = {"commit": describe_commit()} | provenance()
            outcome = diagnose(run, checkpoint) | origin
            with replacing(result) as partial:  # compact, for its many areas
                partial.write_text(json.dumps(outcome) + "\n", "utf-8")


if __name__ == "__main__":
    main()
