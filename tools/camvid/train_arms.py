"""Train each arm of the CamVid study that has no outcome yet, going on where it was.

A run is tools/train.py on the arm's config, from a seed. It can be interrupted at any
time; what it came to is one JSON file. Images are expected in data/camvid:
tools/dataset_converters/camvid.py lays them out.
"""

import os
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import torch
from arms import ARMS, OUTCOMES
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmseg_dynet.analysis.machine import describe_machine
from mmseg_dynet.analysis.outcome import Outcome, read_log, summarize
from mmseg_dynet.cli import config_parser, load_config

POLL_SECONDS = 5


@dataclass(frozen=True)
class Run:
    """One arm from one seed."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{ARMS[self.arm].file_name}-seed{self.seed}"

    @property
    def config(self) -> str:
        return ARMS[self.arm].config

    @property
    def teacher(self) -> "Run | None":
        """The run whose network this one learns from."""
        teacher = ARMS[self.arm].teacher
        return None if teacher is None else Run(teacher, self.seed)


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM",
        help=f"which (default: all): {', '.join(ARMS)}",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, nargs="+",
        help="from which seeds (default: 0, 1, 2, or 0 alone for arms with one)",
    )  # fmt: skip
    parser.add_argument(
        "--work-dirs", type=Path, default=Path("work_dirs/camvid"), metavar="DIR",
        help="logs and checkpoints (default: work_dirs/camvid)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path(OUTCOMES), metavar="DIR",
        help="outcomes, one JSON file a run (default: benchmarks/camvid)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at the same time (default: 1)"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE",
        help="as for tools/train.py, in every run",
    )  # fmt: skip
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    return args


def max_iters(run: Run, args: Namespace) -> int:
    """How long a run trains."""
    options = {}
    if args.cfg_options:
        parsed = config_parser("").parse_args(["--cfg-options", *args.cfg_options])
        options = parsed.cfg_options
    return load_config(run.config, options).train_cfg.max_iters


def find_checkpoint(run: Run, args: Namespace) -> Path:
    """The weights that a run ended with."""
    path = args.work_dirs / run.name / f"iter_{max_iters(run, args)}.pth"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}, the teacher, is missing: train it with --arms {run.arm} --seeds "
            f"{run.seed}, after deleting {args.out / run.name}.json if that is there"
        )
    return path


class Job:
    """A run that is under way in a process of its own."""

    def __init__(self, run: Run, args: Namespace, bars: Progress) -> None:
        self.run, self.args, self.bars = run, args, bars
        self.work_dir = args.work_dirs / run.name
        self.max_iters = max_iters(run, args)
        self.command = [
            "python", "tools/train.py", run.config, "--resume",
            "--work-dir", str(self.work_dir),
            "--cfg-options", f"randomness.seed={run.seed}", *args.cfg_options,
        ]  # fmt: skip
        if run.teacher is not None:
            checkpoint = find_checkpoint(run.teacher, args)
            self.command.append(f"model.teacher.checkpoint={checkpoint}")
        self.bar = bars.add_task(run.name, total=self.max_iters, note="")
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self.output = self.work_dir / "output.txt"
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.command[1:]], stdout=output, stderr=output
            )

    def has_ended(self) -> bool:
        """Look at the process; show how far it is, or write the outcome."""
        code = self.process.poll()
        log = read_log(self.work_dir)
        if log:
            scores = [f"mIoU {r['mIoU']:.2f}" for r in log if "mIoU" in r]
            self.bars.update(
                self.bar, completed=log[-1]["step"], note=scores[-1] if scores else ""
            )
        if code is None:
            return False
        summary = summarize(self.work_dir, self.max_iters) if code == 0 else None
        if summary is None:
            raise RuntimeError(
                f"{self.run.name} ended with exit status {code}, see {self.output}. "
                "Start this tool again to go on from its last checkpoint"
            )
        outcome = Outcome(
            arm=self.run.arm,
            config=self.run.config,
            seed=self.run.seed,
            commit=git_commit(),
            machine=describe_machine(),
            command=shlex.join(self.command),
            **summary,
        )
        outcome.write(self.args.out / f"{self.run.name}.json")
        return True


def git_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def pop_ready(waiting: list[Run], jobs: list[Job]) -> Run | None:
    """Take the first run whose teacher is not waiting or under way itself."""
    unfinished = {*waiting, *(job.run for job in jobs)}
    for run in waiting:
        if run.teacher not in unfinished:
            waiting.remove(run)
            return run
    return None


def main():
    args = parse_args()
    waiting = [
        run
        for arm in args.arms
        for run in (Run(arm, s) for s in args.seeds or range(ARMS[arm].num_seeds))
        if not (args.out / f"{run.name}.json").is_file()
    ]
    # Runs side by side share the cores instead of fighting for them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // args.jobs)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # for the record
    jobs: list[Job] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ) as bars:
        try:
            while waiting or jobs:
                while len(jobs) < args.jobs and (run := pop_ready(waiting, jobs)):
                    jobs.append(Job(run, args, bars))
                sleep(POLL_SECONDS)
                jobs = [job for job in jobs if not job.has_ended()]
        finally:
            for job in jobs:  # if one has failed, or the user has had enough
                job.process.terminate()


if __name__ == "__main__":
    main()
