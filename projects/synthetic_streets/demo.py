"""Train FCN on Dy-ResNet-18 and on its static twin on synthetic streets; compare them.

    python projects/synthetic_streets/demo.py

Runs in the root of the repository, and writes to data/ and work_dirs/.
"""

import json
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from statistics import mean

DATA = Path("data/synthetic_streets")
NAME = "r18-d16_fcn_1xb4-200_synthetic-streets-128x256"
CONFIGS = {
    "static": f"configs/dynet/{NAME}.py",
    "dynamic": f"configs/dynet/dy-{NAME}.py",
}
PROGRESS = re.compile(r"Iter\(train\) \[ *(\d+/\d+)\].* loss: ([\d.]+)")


def run(*words: object) -> None:
    """Run a script of the repository, and print its command."""
    command = [str(word) for word in words]
    print("$", shlex.join(["python", *command]), flush=True)
    subprocess.run([sys.executable, "-W", "ignore", *command], check=True)


def train(config: str, work_dir: Path, seed: int) -> None:
    """Run tools/train.py, and print a line of progress instead of its log."""
    command = ["tools/train.py", config, "--work-dir", str(work_dir)]
    command += ["--cfg-options", f"randomness.seed={seed}"]
    print("$", shlex.join(["python", *command]), flush=True)
    lines = []
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            lines.append(line)
            if match := PROGRESS.search(line):
                print("\r  iteration {}, loss {}".format(*match.groups()), end="")
                sys.stdout.flush()
    print()
    if process.returncode:
        sys.exit("".join(lines[-30:]))


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="of the trainings (default: 0)",
    )
    args = parser.parse_args()
    run("projects/synthetic_streets/generate.py", "--out", DATA)
    scores = {name: [] for name in CONFIGS}
    for seed in args.seeds:
        work_dirs = [Path(f"work_dirs/demo/{name}-seed{seed}") for name in CONFIGS]
        for config, work_dir in zip(CONFIGS.values(), work_dirs, strict=True):
            train(config, work_dir, seed)
        table = Path(f"work_dirs/demo/seed{seed}.json")
        checkpoints = [work_dir / "iter_200.pth" for work_dir in work_dirs]
        run(
            "tools/analysis_tools/compare.py", *CONFIGS.values(),
            "--checkpoints", *checkpoints,
            "--json", table, "--picture", table.with_suffix(".png"),
            "--cfg-options", "log_level=WARNING",
        )  # fmt: skip
        for name, report in zip(
            CONFIGS, json.loads(table.read_text()).values(), strict=True
        ):
            scores[name].append(report["metrics"]["mIoU"])
    if len(args.seeds) > 1:
        for name, values in scores.items():
            seeds = ", ".join(f"{value:.2f}" for value in values)
            print(f"mIoU, {name}: {mean(values):.2f} % ({seeds})")


if __name__ == "__main__":
    main()
