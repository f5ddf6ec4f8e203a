"""Kill a training again and again; it must end as one that was left alone, bit by bit.

    python tests/kill_resume.py --kills 24

Trains Dy-R18 on a few synthetic streets on the CPU, a checkpoint every iteration, of
which one is kept. Each process is killed (SIGKILL) while it starts, at a random moment
of its training, or while it writes a checkpoint, and the next one resumes. Not
collected by pytest: it takes minutes. Ends with an error if a weight, a momentum or a
random state differs.
"""

import os
import random
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from prettytable import PrettyTable
from rich.progress import track
from streets import generate_synthetic_streets

from mmseg_dynet.engine.checkpoint import find_newest, is_whole, load_from_file

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
TRAINS = "Checkpoints will be saved to"  # in the log of a process that starts to train
STARTING, TRAINING, WRITING = MOMENTS = ("starting", "training", "writing")
POLL_SECONDS = 0.002


def parse_args():
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=24, help="default: 24")
    parser.add_argument("--iterations", type=int, default=60, help="default: 60")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


def start(work_dir: Path, streets: Path, iterations: int) -> subprocess.Popen:
    """Start or resume a training; what it prints goes to WORK_DIR.txt."""
    command = [
        sys.executable, "-W", "ignore", ROOT / "tools/train.py", CONFIG, "--resume",
        "--work-dir", work_dir, "--cfg-options", "randomness.seed=3",
        f"train_cfg.max_iters={iterations}", f"train_cfg.val_interval={2 * iterations}",
        "default_hooks.checkpoint.interval=1", "train_dataloader.batch_size=2",
        *(
            f"{split}_dataloader.{key}"
            for split in ("train", "val", "test")
            for key in (
                f"dataset.data_root={streets}",
                "num_workers=0",
                "persistent_workers=False",
            )
        ),
    ]  # fmt: skip
    with work_dir.with_suffix(".txt").open("w") as output:
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )


def wait_until(condition: Callable[[], object], process: subprocess.Popen) -> bool:
    """Wait for a condition; tell whether the process still runs then."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(POLL_SECONDS)
    return False


def kill(
    process: subprocess.Popen, work_dir: Path, moment: str, draw: random.Random
) -> bool:
    """Kill a process at a moment; tell whether it was still running."""
    if moment == STARTING:
        time.sleep(draw.uniform(0, 8))
    else:
        log = work_dir.with_suffix(".txt")
        wait_until(lambda: TRAINS in log.read_text(), process)
        time.sleep(draw.uniform(0, 2.5))
    if moment == WRITING:
        wait_until(lambda: any(work_dir.glob(".iter_*.partial.pth")), process)
        time.sleep(draw.uniform(0, 0.2))
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return running


def end(process: subprocess.Popen, work_dir: Path, iterations: int) -> dict:
    """Let a training come to its end, and read its last checkpoint."""
    if process.wait() != 0:
        raise RuntimeError(work_dir.with_suffix(".txt").read_text()[-3000:])
    return load_from_file(str(work_dir / f"iter_{iterations}.pth"))


def differences(one: object, other: object, name: str = "") -> list[str]:
    """Names of the tensors and numbers in which two nested states differ."""
    if isinstance(one, dict):
        keys = one.keys() | other.keys()
        return [
            d
            for key in keys
            for d in differences(one.get(key), other.get(key), f"{name}.{key}")
        ]
    if isinstance(one, list):
        return differences(dict(enumerate(one)), dict(enumerate(other)), name)
    equal = torch.equal(one, other) if torch.is_tensor(one) else one == other
    return [] if equal else [name]


def main():
    args = parse_args()
    with TemporaryDirectory(prefix="kill_resume_") as folder:
        kill_and_compare(Path(folder), args)


def kill_and_compare(folder: Path, args: Namespace) -> None:
    streets = folder / "streets"
    generate_synthetic_streets(streets, num_train=8, num_val=4)
    quiet = folder / "quiet"
    expected = end(start(quiet, streets, args.iterations), quiet, args.iterations)

    draw = random.Random(args.seed)
    work_dir = folder / "killed"
    table = PrettyTable(
        ["kill", "while", "whole", "partial", "last_checkpoint names", "resumes from"]
    )
    reached = 0
    for number in track(range(1, args.kills + 1), description="Killing"):
        moment = draw.choices(MOMENTS, (1, 2, 3))[0]
        process = start(work_dir, streets, args.iterations)
        if not kill(process, work_dir, moment, draw):
            raise RuntimeError(
                f"training ended before kill {number}, give more --iterations:\n"
                + work_dir.with_suffix(".txt").read_text()[-3000:]
            )
        whole = [p for p in work_dir.glob("*.pth") if p.name[0] != "."]
        broken = [path.name for path in whole if not is_whole(path)]
        if broken:
            raise RuntimeError(f"not whole after kill {number}: {broken}")
        pointer = work_dir / "last_checkpoint"
        newest = find_newest(work_dir)
        iteration = 0 if newest is None else int(newest.stem.removeprefix("iter_"))
        if iteration < reached:
            raise RuntimeError(f"kill {number} lost iter_{reached}.pth")
        reached = iteration
        table.add_row(
            [
                number,
                moment,
                " ".join(sorted(path.stem for path in whole)) or "-",
                len(list(work_dir.glob(".*.partial*"))),
                Path(pointer.read_text()).stem if pointer.is_file() else "-",
                "-" if newest is None else newest.stem,
            ]
        )
    print(table)
    killed = end(start(work_dir, streets, args.iterations), work_dir, args.iterations)
    for key in ("state_dict", "optimizer", "param_schedulers", "random_state"):
        if different := differences(expected[key], killed[key], key):
            raise RuntimeError(f"{len(different)} values differ: {different[:5]}")
    print(
        f"{args.kills} kills in {args.iterations} iterations: weights, momenta, "
        "schedules and random state are bit-equal to those of the run left alone"
    )


if __name__ == "__main__":
    main()
