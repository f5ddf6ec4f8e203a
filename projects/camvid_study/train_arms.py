"""Train the arms of the CamVid study one after the other; one JSON file per run.

A run is tools/train.py on the arm's config, from a seed. Start this script again after
an interruption: runs that have ended are skipped, the others resume. Run it in the root
of the repository, where tools/dataset_converters/camvid.py has written data/camvid.
"""

import json
import os
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from study.arms import ARMS, RESULTS

from mmseg_dynet.analysis.machine import describe_machine
from mmseg_dynet.engine.optim_wrapper import computes_bfloat16
from mmseg_dynet.files import write_json


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM",
        help=f"default: all, {', '.join(ARMS)}",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, nargs="+",
        help="default: 0, 1 and 2, or 0 alone, as in the study",
    )  # fmt: skip
    parser.add_argument("--work-dirs", type=Path, default=Path("work_dirs/camvid"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--threads", type=int, default=1,
        help="per run (default: 1); another number rounds differently",
    )  # fmt: skip
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE",
        help="as for tools/train.py; give other --work-dirs and --results",
    )  # fmt: skip
    return parser.parse_args()


def read_curve(work_dir: Path) -> dict[int, dict]:
    """Return the metrics of each validation of a run by their iteration."""
    curve = {}
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):  # one per start
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            if "mIoU" in record:
                curve[record["step"]] = record
    return dict(sorted(curve.items()))


def summarize(curve: dict[int, dict]) -> dict:
    """Return the mIoU and class IoU of the last validation, and the mIoU of all."""
    *_, last = curve.values()
    return {
        "val_mIoU": last["mIoU"],
        "class_IoU": {
            key.removeprefix("IoU."): value
            for key, value in last.items()
            if key.startswith("IoU.")
        },
        "curve": [[step, record["mIoU"]] for step, record in curve.items()],
    }


def train(arm: str, seed: int, args) -> None:
    """Train a run to its end, unless it has been, and write its result."""
    config, name = ARMS[arm].config, ARMS[arm].run_name(seed)
    work_dir = args.work_dirs / name
    command = ["python", "tools/train.py", config, "--resume", "--work-dir", work_dir]
    command += ["--cfg-options", f"randomness.seed={seed}", *args.cfg_options]
    command = [str(word) for word in command]
    dumped = work_dir / Path(config).name  # of the last start, options included
    curve = read_curve(work_dir)
    if not curve or max(curve) < Config.fromfile(dumped).train_cfg.max_iters:
        print(shlex.join(command), flush=True)
        environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
        subprocess.run([sys.executable, *command[1:]], check=True, env=environment)
        curve = read_curve(work_dir)
    device = get_device()
    precision = "bfloat16" if computes_bfloat16(device) else "float32"
    commit = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    result = {"arm": arm, "config": config, "seed": seed} | summarize(curve)
    result |= {
        "commit": subprocess.run(commit, capture_output=True, text=True).stdout.strip(),
        "precision": precision,
        "machine": describe_machine(device),
        "command": f"OMP_NUM_THREADS={args.threads} {shlex.join(command)}",
    }
    path = args.results / precision / f"{name}.json"
    write_json(path, result)
    print(f"{path}: {result['val_mIoU']:.2f} % mIoU", flush=True)


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)  # describe_machine names it
    for arm in args.arms:
        for seed in args.seeds or range(ARMS[arm].num_seeds):
            train(arm, seed, args)


if __name__ == "__main__":
    main()
