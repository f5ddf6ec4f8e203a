"""Train each arm of the CamVid study that has no outcome yet, going on where it was.

A run is tools/train.py on the arm's config, from a seed. It can be interrupted at any
time; what it came to is outcome.json in its work dir. Images are expected in
data/camvid: tools/dataset_converters/camvid.py lays them out.
"""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TextIO

import torch
from mmengine.config import Config
from mmengine.device import get_device
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from study.arms import ARMS, OUTCOME, WORK_DIRS
from study.outcome import Outcome, read_log, summarize

from mmseg_dynet.analysis.machine import describe_machine
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.engine.optim_wrapper import computes_bfloat16
from mmseg_dynet.files import write_json

ORIGIN = "origin.json"  # in a work dir: command, commit, machine, precision
LOCK = "lock"  # in a work dir: held by its training for as long as it lives
POLL_SECONDS = 5
# Entries of a config that change no weights; --resume sets the first two.
WITHOUT_EFFECT = {
    "load_from", "resume", "log_level", "log_processor", "vis_backends", "visualizer"
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One arm from one seed."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        return ARMS[self.arm].file_name(self.seed)

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
        "--seeds", type=at_least(0), nargs="+",
        help="from which seeds (default: 0, 1, 2, or 0 alone for arms with one)",
    )  # fmt: skip
    parser.add_argument(
        "--work-dirs", type=Path, default=WORK_DIRS, metavar="DIR",
        help=f"outcomes, logs and checkpoints (default: {WORK_DIRS})",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, help="runs at the same time (default: 1)"
    )
    parser.add_argument(
        "--threads", type=at_least(1), default=1,
        help="of the CPU, for each run (default: 1); another number rounds otherwise, "
        "and the run comes to other figures",
    )  # fmt: skip
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE",
        help="as for tools/train.py, in every run; takes --work-dirs, too",
    )  # fmt: skip
    args = parser.parse_args()
    if args.cfg_options and args.work_dirs == WORK_DIRS:
        parser.error(
            f"--cfg-options make other runs than those of the study, in {WORK_DIRS}: "
            "name a folder of their own with --work-dirs"
        )
    return args


def load_with_options(run: Run, options: list[str]) -> Config:
    """A run's config with options as they are given to tools/train.py."""
    words = ["--cfg-options", *options] if options else []
    parsed = config_parser("").parse_args(words)
    return load_config(run.config, parsed.cfg_options)


def max_iters(run: Run, args: Namespace) -> int:
    """How long a run trains."""
    return load_with_options(run, args.cfg_options).train_cfg.max_iters


def work_dir(run: Run, args: Namespace) -> Path:
    return args.work_dirs / run.name


def is_done(run: Run, args: Namespace) -> bool:
    return (work_dir(run, args) / OUTCOME).is_file()


def last_checkpoint(run: Run, args: Namespace) -> Path:
    """The weights that a run ends with."""
    return work_dir(run, args) / f"iter_{max_iters(run, args)}.pth"


def options(run: Run, args: Namespace) -> list[str]:
    """What a run's config is overridden with."""
    words = [f"randomness.seed={run.seed}", *args.cfg_options]
    if run.teacher is not None:
        words.append(f"model.teacher.checkpoint={last_checkpoint(run.teacher, args)}")
    return words


def command(run: Run, args: Namespace) -> list[str]:
    """What trains a run."""
    return [
        "python", "tools/train.py", run.config, "--resume",
        "--work-dir", str(work_dir(run, args)), "--cfg-options", *options(run, args),
    ]  # fmt: skip


def full_command(run: Run, args: Namespace) -> str:
    """What trains a run, for a shell, and with what its figures depend on."""
    return f"OMP_NUM_THREADS={args.threads} {shlex.join(command(run, args))}"


def precision(run: Run, args: Namespace) -> str:
    """What a run computes in on this machine."""
    wrapper = load_with_options(run, args.cfg_options).optim_wrapper
    if wrapper.type != "BFloat16OptimWrapper":
        raise ValueError(
            f"optim_wrapper.type={wrapper.type} must be BFloat16OptimWrapper in the "
            "CamVid study, which computes in bfloat16 where the device can"
        )
    device = torch.device(get_device()).type
    bfloat16 = wrapper.get("emulate", False) or computes_bfloat16(device)
    return "bfloat16" if bfloat16 else "float32"


def read_origin(run: Run, args: Namespace) -> dict[str, str] | None:
    """What the run was first started with, or None if it never was."""
    path = work_dir(run, args) / ORIGIN
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def check_origin(run: Run, args: Namespace) -> None:
    """Raise a ValueError if a work dir was begun by another command, or in another way.

    A run that is over may have been trained in another precision than the machine's.
    """
    origin, wanted = read_origin(run, args), full_command(run, args)
    if origin is None:
        return
    if origin["command"] != wanted:
        raise ValueError(
            f"{work_dir(run, args)} was begun by\n  {origin['command']}\nand not by\n"
            f"  {wanted}\nName another folder with --work-dirs"
        )
    if not is_done(run, args) and origin["precision"] != precision(run, args):
        raise ValueError(
            f"{work_dir(run, args)} was begun in {origin['precision']}, and this "
            f"machine computes in {precision(run, args)}. Name another folder with "
            "--work-dirs"
        )


def check_config(run: Run, args: Namespace) -> None:
    """Raise a ValueError if a run was trained with another config than there is now."""
    # The training leaves the config that it has read, without its bases.
    used = work_dir(run, args) / Path(run.config).name
    if not used.is_file():
        return
    before = what_matters(Config.fromfile(used))
    after = what_matters(load_with_options(run, options(run, args)))
    changed = sorted(key for key in after if before.get(key) != after[key])
    if changed:
        raise ValueError(
            f"{used} was trained with another {', '.join(changed)} than "
            f"{run.config} has now. Name another folder with --work-dirs"
        )


def what_matters(cfg: Config) -> dict:
    """The entries of a config that weights depend on."""
    entries = {key: cfg[key] for key in cfg.keys() - WITHOUT_EFFECT}
    hooks = {k: hook for k, hook in cfg.default_hooks.items() if k != "logger"}
    return entries | {"default_hooks": hooks}


def list_runs(args: Namespace) -> list[Run]:
    """The runs that are asked for and have no outcome.

    Raises:
        FileNotFoundError: The teacher of one is neither among them nor trained.
        ValueError: The work dir of one is another's, or it would not go on as it began.
    """
    asked = [
        Run(arm, seed)
        for arm in args.arms
        for seed in args.seeds or range(ARMS[arm].num_seeds)
    ]
    for run in asked:
        check_origin(run, args)
        check_config(run, args)
    runs = [run for run in dict.fromkeys(asked) if not is_done(run, args)]
    for run in runs:
        if run.teacher is None or run.teacher in runs:
            continue
        if not last_checkpoint(run.teacher, args).is_file():
            # A run with an outcome is not trained again, even if its weights are gone.
            is_over = is_done(run.teacher, args)
            first = f"remove {OUTCOME} beside it and " if is_over else ""
            raise FileNotFoundError(
                f"{last_checkpoint(run.teacher, args)}, the teacher of {run.name}, is "
                f"missing: {first}train it with --arms {run.teacher.arm} --seeds "
                f"{run.seed}"
            )
    return runs


def lock(work_dir: Path) -> TextIO:
    """Take a work dir for a process that inherits the open file.

    Raises:
        RuntimeError: A training has it, of a runner that was killed.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    file = (work_dir / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RuntimeError(
            f"{work_dir} is still being trained in, by a process that an earlier start "
            "of this tool left: wait for it or end it, then start this tool again"
        ) from None
    return file


def conclude(run: Run, args: Namespace) -> bool:
    """Write the outcome of a run that has got to its end; tell whether it has."""
    origin = read_origin(run, args)
    summary = summarize(work_dir(run, args), max_iters(run, args))
    if origin is None or summary is None:
        return False
    outcome = Outcome(
        arm=run.arm,
        config=run.config,
        seed=run.seed,
        **origin,
        **summary,
    )
    outcome.write(work_dir(run, args) / OUTCOME)
    return True


class Job:
    """A run that is under way in a process of its own.

    Args:
        run: What is trained.
        args: Of this tool.
        bars: Where its progress is shown.
        lock: The open file that locks its work dir.
    """

    def __init__(self, run: Run, args: Namespace, bars: Progress, lock: TextIO) -> None:
        self.run, self.args, self.bars = run, args, bars
        self.work_dir = work_dir(run, args)
        if read_origin(run, args) is None:
            origin = {
                "command": full_command(run, args),
                "commit": git_commit(),
                "machine": describe_machine(get_device()),
                "precision": precision(run, args),
            }
            write_json(self.work_dir / ORIGIN, origin)
        # Written before the last validation: a run that was killed in it has to get
        # there again, from the checkpoint before.
        last_checkpoint(run, args).unlink(missing_ok=True)
        self.bar = bars.add_task(run.name, total=max_iters(run, args), note="")
        self.output = self.work_dir / "output.txt"
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command(run, args)[1:]],
                stdout=output,
                stderr=output,
                pass_fds=[lock.fileno()],
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
        if code != 0 or not conclude(self.run, self.args):
            raise RuntimeError(
                f"{self.run.name} ended with exit status {code}, see {self.output}. "
                "Start this tool again to go on from its last checkpoint"
            )
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
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    # Threads of runs side by side share the cores instead of fighting for them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_num_threads(args.threads)  # for the record
    runs = list_runs(args)
    locks = {run: lock(work_dir(run, args)) for run in runs}
    # Of a runner that was killed the trainings may have gone on, to their end.
    waiting = [run for run in runs if not conclude(run, args)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C: by `finally`
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
                    jobs.append(Job(run, args, bars, locks[run]))
                sleep(POLL_SECONDS)
                jobs = [job for job in jobs if not job.has_ended()]
        finally:
            for job in jobs:  # if one has failed, or the user has had enough
                job.process.terminate()
            for job in jobs:
                job.process.wait()


if __name__ == "__main__":
    main()
