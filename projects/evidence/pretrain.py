"""Pretrain arms of ResNet-18 on Tiny-ImageNet-200, resuming where it stopped.

100,000 images of 64x64 in 200 classes; the 10,000 of the validation split tell arms
apart. A run is tools/train.py on its config, with bfloat16 and on a GPU where there is
one. Arms that have a result are skipped. Backbones are saved in float16, half as large
to send. Start it in the root of the repository, in an environment with mmpretrain, and
with the images in data/ (PROTOCOL.md).
"""

import argparse
from pathlib import Path

import torch
from train import ARMS, FOLDER, read_curve, run

from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.engine.checkpoint import load_from_file, weights_of
from mmseg_dynet.files import write_json

VALIDATION = Path("data/tiny-imagenet-200/val")


def sort_validation(folder: Path) -> None:
    """Move the validation images to a folder per class, as those for training are."""
    images = folder / "images"
    for line in (folder / "val_annotations.txt").read_text("utf-8").splitlines():
        name, category, *_ = line.split("\t")
        if (images / name).exists():
            (folder / category).mkdir(exist_ok=True)
            (images / name).rename(folder / category / name)
    images.rmdir()


def pretrain(arm: str, args: argparse.Namespace) -> None:
    """Train one arm and write its result, unless there is one."""
    result = args.results / f"{arm}.json"
    if result.exists():
        return
    name = ARMS["resnet18"][arm].removesuffix("_fcn")
    config = FOLDER / "configs" / f"{name}_1xb256_tiny-imagenet.py"
    work_dir = args.work_dirs / arm
    options = [f"train_cfg.max_epochs={args.epochs}"]
    options.append(f"param_scheduler.1.end={args.epochs}")
    if args.small:
        loaders = ("train_dataloader", "val_dataloader")
        options += [f"{loader}.dataset.indices=1000" for loader in loaders]
    run("train", config, "--resume", "--work-dir", work_dir, "--cfg-options", *options)
    key = "accuracy/top1"
    curve = [[e["step"], round(e[key], 2)] for e in read_curve(work_dir, key)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    outcome = {"arm": arm, "network": "resnet18", "dataset": "tiny-imagenet"} | {
        "top1": curve[-1][1],
        "curve": curve,
        "config": config.name,
    }
    weights = weights_of(load_from_file(work_dir / f"epoch_{args.epochs}.pth"))
    backbone = {n: w.half() for n, w in weights.items() if n.startswith("backbone.")}
    torch.save({"state_dict": backbone}, args.work_dirs / f"{arm}.pth")
    write_json(result, outcome | provenance(device))  # last: it marks the arm as done


def main() -> None:
    """Pretrain the arms in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arms", nargs="+", default=["control", "dynamic", "narrowed"])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--small", action="store_true", help="take 1000 images")
    parser.add_argument("--work-dirs", type=Path, default=Path("work_dirs/pretrained"))
    parser.add_argument("--results", type=Path, default=FOLDER / "results/pretrained")
    args = parser.parse_args()
    if (VALIDATION / "images").exists():
        sort_validation(VALIDATION)
    for arm in args.arms:
        pretrain(arm, args)


if __name__ == "__main__":
    main()
