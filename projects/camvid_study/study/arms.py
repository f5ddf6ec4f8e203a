"""The arms of the study."""

from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Arm:
    """One of the networks that are compared.

    Attributes:
        network: The first part of its config's name.
        static_twin: The arm that it is measured against.
    """

    network: str
    static_twin: str

    @property
    def config(self) -> str:
        """Path of its config, relative to the root of the repository."""
        return f"configs/dynet/{self.network}_fcn_1xb4-2k_camvid-240x320.py"


ARMS = {
    "ResNet18": Arm("r18-d16", "ResNet18"),
    "Dy-ResNet18": Arm("dy-r18-d16", "ResNet18"),
    "Fix-ResNet18": Arm("fix-r18-d16", "ResNet18"),
    "Dy-ResNet18 (g_t=1)": Arm("dy-r18-g1-d16", "ResNet18"),
    "Dy-ResNet18 (g_t=2)": Arm("dy-r18-g2-d16", "ResNet18"),
    "Dy-ResNet18 (g_t=4)": Arm("dy-r18-g4-d16", "ResNet18"),
    "ResNet50": Arm("r50-d16", "ResNet50"),
    "Dy-ResNet50": Arm("dy-r50-d16", "ResNet50"),
    "Fix-ResNet50": Arm("fix-r50-d16", "ResNet50"),
}
MAIN_ARMS = ("ResNet18", "Dy-ResNet18", "Fix-ResNet18")  # those with three seeds
