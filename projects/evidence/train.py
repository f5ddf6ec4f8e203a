"""Train arms from seeds and record each result, resuming where it stopped.

A run is tools/train.py on its config, on one thread of the CPU, then tools/test.py in
windows of the training crop. Runs that have a result are skipped. Start it in the root
of the repository, with the images in data/ (README.md).
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config

from mmseg_dynet.analysis.machine import describe_machine
from mmseg_dynet.files import write_json

FOLDER = Path(__file__).parent
DATASETS = {"labelmefacade": "labelmefacade-192x256", "camvid": "camvid-240x320"}
# Of dynamic ResNet-18, one option each.
VARIANTS = (
    "constant", "one-kernel", "centred", "softmax", "per-kernel", "static-kernel",
    "predictor-lr",
)  # fmt: skip
ARMS = {  # network -> arm -> how the names of its configs begin
    "resnet18": {
        "control": "fix-r18-d16_fcn",
        "dynamic": "dy-r18-d16_fcn",
        "narrowed": "r18-w34-d16_fcn",
        "twin": "r18-d16_fcn",
    }
    | {name: f"dy-r18-d16_fcn-{name}" for name in VARIANTS},
    "ddrnet23": {
        "control": "ddrnet_23-slim",
        "dynamic": "dy-ddrnet_23",
        "twin": "ddrnet_23",
    },
}


def config_path(network: str, dataset: str, arm: str) -> Path:
    """The config of an arm."""
    name = f"{ARMS[network][arm]}_1xb4_{DATASETS[dataset]}.py"
    return FOLDER / "configs" / name


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=ARMS, required=True)
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--lr", type=float, help="instead of the config's")
    parser.add_argument("--iters", type=int, help="instead of the config's")
    parser.add_argument(
        "--pretrained",
        type=Path,
        help="folder of pretrain.py with the checkpoints to take backbones from",
    )
    parser.add_argument("--work-dirs", type=Path, default=Path("work_dirs/evidence"))
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    return parser.parse_args()


def run(tool: str, *words: object) -> None:
    """Run a tool of the repository on one thread."""
    paths = [str(Path.cwd()), str(FOLDER.resolve()), os.environ.get("PYTHONPATH", "")]
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, f"tools/{tool}.py", *map(str, words)]
    subprocess.run(command, env=os.environ | env, check=True)


def describe_commit() -> str:
    """The commit that is checked out, with "-dirty" if files have changed since.

    A machine without the repository's history gets it by the variable COMMIT.
    """
    if commit := os.environ.get("COMMIT"):
        return commit
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.check_output(command, text=True).strip()


def read_curve(work_dir: Path, metric: str = "mIoU") -> list[dict]:
    """The validations of a run, in their order, each with its "step"."""
    paths = sorted(work_dir.glob("*/vis_data/scalars.json"))
    text = "".join(path.read_text("utf-8") for path in paths)  # one per resumption
    lines = map(json.loads, text.splitlines())
    by_step = {line["step"]: line for line in lines if metric in line}
    return [by_step[step] for step in sorted(by_step)]


def class_iou(metrics: dict) -> dict[str, float]:
    """IoU of each class in percent."""
    return {k.removeprefix("IoU."): v for k, v in metrics.items() if k[:4] == "IoU."}


def runs_with_checkpoints(work_dirs: Path) -> Iterator[tuple[dict, Path]]:
    """The results of all runs whose last checkpoint is there, each with its path."""
    for path in sorted((FOLDER / "results").glob("*_seed*.json")):
        result = json.loads(path.read_text("utf-8"))
        checkpoint = work_dirs / path.stem / f"iter_{result['iterations']}.pth"
        if checkpoint.exists():
            yield result, checkpoint


def train(args: argparse.Namespace, arm: str, seed: int) -> None:
    """Train one arm from one seed and write its result, unless there is one."""
    config = config_path(args.network, args.dataset, arm)
    cfg = Config.fromfile(config)
    lr = args.lr or cfg.optim_wrapper.optimizer.lr
    end = args.iters or cfg.train_cfg.max_iters
    network = f"{args.network}{'-pretrained' if args.pretrained else ''}"
    name = f"{network}_{args.dataset}_{arm}_lr{lr}_{end}_seed{seed}"
    result, work_dir = args.results / f"{name}.json", args.work_dirs / name
    checkpoint = work_dir / f"iter_{end}.pth"
    if result.exists():
        return
    commit = describe_commit()
    options = [f"randomness.seed={seed}", f"optim_wrapper.optimizer.lr={lr}"]
    if args.iters:  # the whole schedule, at another length
        keys = ("max_iters", "val_begin", "val_interval")
        options += [f"train_cfg.{key}={end}" for key in keys]
        options.append(f"param_scheduler.1.end={end}")
    if args.pretrained:
        init = {"type": "Pretrained", "prefix": "backbone."}
        init["checkpoint"] = args.pretrained / f"{arm}.pth"
        options += [f"model.backbone.init_cfg.{k}={v}" for k, v in init.items()]
    if end not in [point["step"] for point in read_curve(work_dir)]:
        checkpoint.unlink(missing_ok=True)  # was written before the last validation
    run("train", config, "--resume", "--work-dir", work_dir, "--cfg-options", *options)
    *_, last = curve = read_curve(work_dir)
    options = [f"model.test_cfg.{key}={value}" for key, value in cfg.windows.items()]
    words = ["--work-dir", work_dir / "windows", "--cfg-options", *options]
    run("test", config, checkpoint, *words)
    newest = max(work_dir.glob("windows/*/*.json"))
    windows = json.loads(newest.read_text("utf-8"))
    outcome = {"arm": arm, "network": network, "dataset": args.dataset} | {
        "seed": seed,
        "mIoU": round(last["mIoU"], 2),
        "class_IoU": class_iou(last),
        "windows_mIoU": round(windows["mIoU"], 2),
        "windows_class_IoU": class_iou(windows),
        "curve": [[point["step"], round(point["mIoU"], 2)] for point in curve],
        "config": config.name,
        "lr": lr,
        "iterations": end,
        "commit": commit,
        "machine": describe_machine("cuda" if torch.cuda.is_available() else "cpu"),
    }
    write_json(result, outcome)


def main() -> None:
    """Train all arms from the first seed, then from the second, and so on."""
    args = parse_args()
    torch.set_num_threads(1)  # as in the runs: describe_machine names it
    for seed in args.seeds:
        for arm in args.arms:
            train(args, arm, seed)


if __name__ == "__main__":
    main()
