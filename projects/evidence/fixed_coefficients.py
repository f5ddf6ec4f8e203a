"""How far coefficients move between images, and what it costs to fix them.

Takes each run of train.py that has a result and a checkpoint, and a dynamic network.
Its coefficients are fixed at their mean over the training images, which makes the
network static, and the network is tested again on whole images. Start it in the root of
the repository; results/fixed/ gets a file per run.
"""

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from evaluation import evaluate, images_of
from rich.progress import track
from torch import Tensor, nn
from train import FOLDER, runs_with_checkpoints

from mmseg_dynet.analysis.coefficients import CoefficientRecorder, average
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.files import write_json

STATIC = ("control", "narrowed", "twin")


@contextmanager
def fixed(model: nn.Module, coefficients: Mapping[str, Tensor]) -> Iterator[None]:
    """Give dynamic layers coefficients (O, K), by their names, in the block."""
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, __, coeff=coeff: (args[:1], {"coeff": coeff.float()[None]}),
            with_kwargs=True,
        )
        for name, coeff in coefficients.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def measure(run: dict, checkpoint: Path) -> dict:
    """The network of a run as trained, and with fixed coefficients."""
    cfg = load_config(FOLDER / "configs" / run["config"])
    model = build_model(cfg, str(checkpoint))
    val = images_of(cfg, cfg.val_dataloader.dataset)
    with CoefficientRecorder(model) as recorder:
        as_trained = evaluate(cfg, model, val)["all"]
    with CoefficientRecorder(model) as train_recorder:
        for batch in track(images_of(cfg, cfg.train_dataloader.dataset), "mean"):
            model.test_step(batch)
    with fixed(model, train_recorder.means()):
        as_fixed = evaluate(cfg, model, val)["all"]
    between = {
        key: round(value, 4)
        for key, value in average(recorder.summarize()).items()
        if key.startswith("between_image")
    }
    kept = ("arm", "network", "dataset", "seed")
    scores = {"mIoU": as_trained, "fixed_mIoU": as_fixed}
    return {key: run[key] for key in kept} | scores | between


def main() -> None:
    """Measure all runs that have not been measured."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work-dirs", type=Path, default=Path("work_dirs/evidence"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for run, checkpoint in runs_with_checkpoints(args.work_dirs):
        result = FOLDER / "results/fixed" / f"{checkpoint.parent.name}.json"
        if run["arm"] in STATIC or result.exists():
            continue
        write_json(result, measure(run, checkpoint) | provenance())


if __name__ == "__main__":
    main()
