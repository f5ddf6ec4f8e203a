"""Look into the networks that train_arms.py has trained, as far as they are.

Figures go to benchmarks/camvid/PRECISION/, plots to docs/images/, and predictions side
by side to the work dirs, since CamVid's images are not to be passed on. report.py
writes the tables. What is newer than its networks is kept.
"""

import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from study.arms import (
    ARMS,
    CONTROL,
    DYNAMIC,
    MAIN_ARMS,
    OUTCOME,
    RESULTS,
    STATIC,
    WORK_DIRS,
)
from study.outcome import Outcome

TOOLS = Path("tools/analysis_tools")
IMAGES = Path("docs/images")
KEPT_FOR = ("2", "5", "10", "101")  # frames; of 101, the first chooses the kernels
# Windows other than the training crop: half an image, upper and lower, then left and
# right; a part of it.
WINDOWS = ((240, 480), (360, 320), (180, 240))


@dataclass(frozen=True)
class Network:
    """A run that has ended."""

    outcome: Outcome
    checkpoint: Path

    @property
    def arguments(self) -> list[str]:
        """How the tools are told of it: config and checkpoint."""
        return [self.outcome.config, str(self.checkpoint)]

    @property
    def name(self) -> str:
        return ARMS[self.outcome.arm].file_name(self.outcome.seed)

    @property
    def results(self) -> Path:
        return RESULTS / self.outcome.precision


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work-dirs", type=Path, default=WORK_DIRS, metavar="DIR",
        help=f"where train_arms.py trained (default: {WORK_DIRS})",
    )  # fmt: skip
    return parser.parse_args()


def find_networks(work_dirs: Path) -> dict[tuple[str, int], Network]:
    """The runs that have an outcome, and their last weights still, by arm and seed."""
    found = {}
    for path in sorted(work_dirs.glob(f"*/{OUTCOME}")):
        outcome = Outcome.read(path)
        last_iteration, _ = outcome.curve[-1]
        checkpoint = path.with_name(f"iter_{last_iteration}.pth")
        if checkpoint.is_file():
            found[outcome.arm, outcome.seed] = Network(outcome, checkpoint)
    return found


def run(tool: str, *arguments: str | Path) -> None:
    """Run an analysis tool in a process of its own, whose command it records."""
    command = [sys.executable, "-W", "ignore", TOOLS / f"{tool}.py", *arguments]
    subprocess.run(command, check=True)


def analyze(
    tool: str, networks: list[Network], json: Path, *options: str | Path
) -> None:
    """Let a tool look at a network, beside others, unless its JSON is newer than all.

    Args:
        tool: Of tools/analysis_tools.
        networks: One, or as many as the tool compares.
        json: What it writes.
        *options: Further arguments.
    """
    written = json.stat().st_mtime if json.is_file() else 0
    if all(written > n.checkpoint.stat().st_mtime for n in networks):
        print(f"{json} is newer than its networks: kept")
        return
    print(f"{json} ...")
    first, *others = networks
    versus = [word for n in others for word in ("--vs", *n.arguments)]
    run(tool, *first.arguments, *versus, "--json", json, *options)


def analyze_modes(network: Network) -> None:
    """In windows and on whole images; main arms also with kernels kept.

    And those of the first seed in windows of other sizes.
    """
    folder, name = network.results, network.name
    is_main = network.outcome.arm in MAIN_ARMS
    json, frames = folder / f"modes/{name}.json", KEPT_FOR if is_main else ()
    analyze("inference_modes", [network], json, "--reuse", *frames)
    if is_main and network.outcome.seed == 0:
        for height, width in WINDOWS:
            json = folder / f"windows/{name}-{height}x{width}.json"
            crop = ("--crop", str(height), str(width))
            analyze("inference_modes", [network], json, "--reuse", *crop)


def analyze_coefficients(network: Network) -> None:
    plot = IMAGES / f"camvid-coefficients-{network.outcome.precision}.png"
    json = network.results / "coefficients.json"
    analyze("coefficients", [network], json, "--plot", plot)


def compare(networks: list[Network], picture: Path) -> None:
    """Correlations between channels, and predictions side by side."""
    first = networks[0]
    plot = IMAGES / f"camvid-correlation-{first.outcome.precision}.png"
    analyze("correlation", networks, first.results / "correlation.json", "--plot", plot)
    configs, checkpoints = zip(*(n.arguments for n in networks), strict=True)
    run("compare", *configs, "--checkpoints", *checkpoints, "--picture", picture)


def main():
    args = parse_args()
    networks = find_networks(args.work_dirs)
    for network in networks.values():
        analyze_modes(network)
    if (DYNAMIC, 0) in networks:
        analyze_coefficients(networks[DYNAMIC, 0])
    if all((arm, 0) in networks for arm in MAIN_ARMS):
        trio = [networks[arm, 0] for arm in (DYNAMIC, CONTROL, STATIC)]
        compare(trio, args.work_dirs / "predictions.png")


if __name__ == "__main__":
    main()
