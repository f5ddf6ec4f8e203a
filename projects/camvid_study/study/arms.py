"""The arms of the CamVid study: what is trained, from how many seeds, filed where."""

from dataclasses import dataclass
from pathlib import Path

RESULTS = Path("benchmarks/camvid")  # relative to the root of the repository
WORK_DIRS = Path("work_dirs/camvid")
OUTCOME = "outcome.json"  # of a run, in its work dir


@dataclass(frozen=True)
class Arm:
    """What is compared.

    Attributes:
        network: The first part of its config's name.
        static_twin: The arm that it is measured against.
        num_seeds: How often it is trained: from the seeds 0, 1, ...
        teacher: The arm whose network of the same seed it learns from, if any.
    """

    network: str
    static_twin: str
    num_seeds: int = 1
    teacher: str | None = None

    @property
    def config(self) -> str:
        """Path of its config, relative to the root of the repository."""
        return f"configs/dynet/{self.network}_1xb4-2k_camvid-240x320.py"

    def file_name(self, seed: int) -> str:
        """How the files of its run from a seed are called."""
        return f"{self.network.replace('_fcn', '')}-seed{seed}"


ARMS = {
    "ResNet18": Arm("r18-d16_fcn", "ResNet18", num_seeds=3),
    "Dy-ResNet18": Arm("dy-r18-d16_fcn", "ResNet18", num_seeds=3),
    "Fix-ResNet18": Arm("fix-r18-d16_fcn", "ResNet18", num_seeds=3),
    "Dy-ResNet18 (g_t=1)": Arm("dy-r18-g1-d16_fcn", "ResNet18"),
    "Dy-ResNet18 (g_t=2)": Arm("dy-r18-g2-d16_fcn", "ResNet18"),
    "Dy-ResNet18 (g_t=4)": Arm("dy-r18-g4-d16_fcn", "ResNet18"),
    "Dy-ResNet18 (distilled)": Arm(
        "dy-r18-d16_fcn-distilled", "ResNet18", teacher="ResNet18"
    ),
    "ResNet50": Arm("r50-d16_fcn", "ResNet50"),
    "Dy-ResNet50": Arm("dy-r50-d16_fcn", "ResNet50"),
    "Fix-ResNet50": Arm("fix-r50-d16_fcn", "ResNet50"),
}
# Those that are trained from several seeds, and looked into.
STATIC, DYNAMIC, CONTROL = MAIN_ARMS = ("ResNet18", "Dy-ResNet18", "Fix-ResNet18")
