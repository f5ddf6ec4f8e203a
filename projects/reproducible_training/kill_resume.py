"""Kill a training again and again; it must end as one that was left alone, bit by bit.

    python projects/reproducible_training/kill_resume.py --kills 24

Trains Dy-ResNet-18 on a few synthetic streets, on the CPU, with a checkpoint after
every iteration, of which one is kept. Each process is killed (SIGKILL) while it starts,
while it trains, or while it writes a checkpoint, and the next one resumes. Takes
minutes. Fails if a weight, a momentum or a random state differs at the end.
"""

import os
import random
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

ROOT = Path(__file__).resolve().parents[2]
BASES = [
    f"{ROOT}/configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py",
    f"{ROOT}/projects/reproducible_training/config.py",
]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
MOMENTS = ("starting", "training", "writing")
STARTED = "Checkpoints will be saved to"  # in the log, when the first iteration begins


def start(folder: Path, name: str, iterations: int) -> subprocess.Popen:
    """Start or resume the training in a work directory, FOLDER/NAME."""
    config = folder / "config.py"
    config.write_text(f"_base_ = {BASES}\n")
    loaders = [
        f"{split}_dataloader.{option}"
        for split in ("train", "val", "test")
        for option in (
            f"dataset.data_root={folder / 'streets'}",
            "num_workers=0",
            "persistent_workers=False",
        )
    ]
    options = [
        "randomness.seed=3",
        "log_level=INFO",
        f"train_cfg.max_iters={iterations}",
        f"train_cfg.val_interval={2 * iterations}",
        "default_hooks.checkpoint.interval=1",
        "default_hooks.checkpoint.max_keep_ckpts=1",
        "train_dataloader.batch_size=2",
    ]
    command = [sys.executable, "-W", "ignore", ROOT / "tools/train.py", config]
    command += ["--resume", "--work-dir", folder / name, "--cfg-options"]
    with (folder / f"{name}.txt").open("w") as output:
        return subprocess.Popen(
            [*command, *options, *loaders],
            env=ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def kill(process: subprocess.Popen, folder: Path, name: str, rng: random.Random) -> str:
    """Kill the process at a random moment, and return which it was."""
    moment = rng.choices(MOMENTS, (1, 2, 3))[0]
    if moment == "starting":
        time.sleep(rng.uniform(0, 8))
    else:
        log = folder / f"{name}.txt"
        while process.poll() is None and STARTED not in log.read_text():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2.5))
    if moment == "writing":
        work_dir = folder / name
        while process.poll() is None and not any(work_dir.glob(".*.partial*")):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
    if process.poll() is not None:
        raise RuntimeError(f"training ended before the kill: see {name}.txt")
    process.kill()
    process.wait()
    return moment


def finish(folder: Path, name: str, iterations: int) -> dict:
    """Let a training end, and read its last checkpoint."""
    if start(folder, name, iterations).wait() != 0:
        raise RuntimeError((folder / f"{name}.txt").read_text()[-3000:])
    return torch.load(folder / name / f"iter_{iterations}.pth", weights_only=False)


def differences(one: object, other: object, name: str) -> list[str]:
    """List the names of the values in which two nested states differ."""
    if isinstance(one, list):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if isinstance(one, dict):
        return [
            different
            for key in one.keys() | other.keys()
            for different in differences(one.get(key), other.get(key), f"{name}.{key}")
        ]
    equal = torch.equal(one, other) if torch.is_tensor(one) else one == other
    return [] if equal else [name]


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=24, help="default: 24")
    parser.add_argument("--iterations", type=int, default=60, help="default: 60")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with TemporaryDirectory(prefix="kill_resume_") as name:
        folder = Path(name)
        painter = ROOT / "projects/synthetic_streets/generate.py"
        numbers = ["--num-train", "8", "--num-val", "4"]
        command = [sys.executable, painter, "--out", folder / "streets", *numbers]
        subprocess.run(command, env=ENVIRONMENT, check=True)
        expected = finish(folder, "left_alone", args.iterations)
        for number in range(1, args.kills + 1):
            process = start(folder, "killed", args.iterations)
            moment = kill(process, folder, "killed", rng)
            checkpoints = list((folder / "killed").glob("[!.]*.pth"))
            for path in checkpoints:
                torch.load(path, weights_only=False)  # it is whole
            names = ", ".join(sorted(path.stem for path in checkpoints)) or "nothing"
            print(f"kill {number}, while {moment}: {names}", flush=True)
        found = finish(folder, "killed", args.iterations)
    for key in ("state_dict", "optimizer", "param_schedulers", "random_state"):
        if different := differences(expected[key], found[key], key):
            raise RuntimeError(f"{len(different)} values differ: {different[:5]}")
    print(f"bit-equal to the training left alone after {args.kills} kills")


if __name__ == "__main__":
    main()
