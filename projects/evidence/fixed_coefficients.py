"""How far coefficients move between images, and what it costs to fix them.

Takes each run of train.py that has a result and a checkpoint, and a dynamic network.
Its coefficients are fixed at their mean over the training images, which makes the
network static, and the network is tested again on whole images. Start it in the root of
the repository; results/fixed/ gets a file per run.
"""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader
from train import FOLDER

from mmseg_dynet.analysis.coefficients import CoefficientRecorder, average
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.files import write_json
from mmseg_dynet.ops import CoefficientPredictor

STATIC = ("control", "narrowed", "twin")
Coefficients = dict[CoefficientPredictor, tuple[Tensor, ...]]  # (1, O, K) per layer


def whole_images(cfg: Config, split: str) -> DataLoader:
    """The images of a split, "train" or "val", one by one and as in a test."""
    dataset = dict(cfg[f"{split}_dataloader"].dataset)
    dataset["pipeline"] = cfg.test_dataloader.dataset.pipeline
    return Runner.build_dataloader(dict(cfg.test_dataloader, dataset=dataset))


def mean_coefficients(model: nn.Module, images: DataLoader) -> Coefficients:
    """What each predictor predicts in the mean over images."""
    sums: Coefficients = {}

    def add(predictor: CoefficientPredictor, _: tuple, coeffs: tuple) -> None:
        before = sums.get(predictor, [0] * len(coeffs))
        sums[predictor] = tuple(map(torch.add, coeffs, before))

    predictors = [m for m in model.modules() if isinstance(m, CoefficientPredictor)]
    hooks = [predictor.register_forward_hook(add) for predictor in predictors]
    for batch in track(images, "mean coefficients", transient=True):
        model.test_step(batch)
    for hook in hooks:
        hook.remove()
    return {p: tuple(s / len(images) for s in layers) for p, layers in sums.items()}


@contextmanager
def fixed(coefficients: Coefficients) -> Iterator[None]:
    """Replace what predictors predict, in the block."""
    hooks = [
        predictor.register_forward_hook(lambda *_, layers=layers: layers)
        for predictor, layers in coefficients.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def evaluate(cfg: Config, model: nn.Module, images: DataLoader) -> float:
    """The mIoU in percent."""
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = images.dataset.metainfo
    for batch in track(images, "test", transient=True):
        evaluator.process(model.test_step(batch), batch)
    return round(float(evaluator.evaluate(len(images.dataset))["mIoU"]), 2)


@torch.inference_mode()
def measure(run: dict, checkpoint: Path) -> dict:
    """The network of a run as trained, and with fixed coefficients."""
    cfg = load_config(FOLDER / "configs" / run["config"])
    model = build_model(cfg, str(checkpoint))
    val = whole_images(cfg, "val")
    with CoefficientRecorder(model) as recorder:
        as_trained = evaluate(cfg, model, val)
    with fixed(mean_coefficients(model, whole_images(cfg, "train"))):
        as_fixed = evaluate(cfg, model, val)
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
    for path in sorted((FOLDER / "results").glob("*_seed*.json")):
        run = json.loads(path.read_text("utf-8"))
        checkpoint = args.work_dirs / path.stem / f"iter_{run['iterations']}.pth"
        result = FOLDER / "results/fixed" / path.name
        if run["arm"] in STATIC or not checkpoint.exists() or result.exists():
            continue
        write_json(result, measure(run, checkpoint) | provenance())


if __name__ == "__main__":
    main()
