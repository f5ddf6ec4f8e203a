"""The arms of the CamVid study: their configs, and from how many seeds each."""

CONFIGS = {
    "ResNet18": "r18-d16",
    "Dy-ResNet18": "dy-r18-d16",
    "Fix-ResNet18": "fix-r18-d16",
    "Dy-ResNet18 (g_t=1)": "dy-r18-g1-d16",
    "Dy-ResNet18 (g_t=2)": "dy-r18-g2-d16",
    "Dy-ResNet18 (g_t=4)": "dy-r18-g4-d16",
    "ResNet50": "r50-d16",
    "Dy-ResNet50": "dy-r50-d16",
    "Fix-ResNet50": "fix-r50-d16",
}
NUM_SEEDS = {"ResNet18": 3, "Dy-ResNet18": 3, "Fix-ResNet18": 3}  # of others: 1
OUTCOMES = "benchmarks/camvid"


def short_name(arm: str) -> str:
    """An arm's name in file names."""
    return CONFIGS[arm]


def static_twin(arm: str) -> str:
    """The static arm that an arm is measured against."""
    return "ResNet50" if "ResNet50" in arm else "ResNet18"


def config_path(arm: str) -> str:
    """An arm's config, relative to the root of the repository."""
    return f"configs/fcn/{CONFIGS[arm]}_fcn_1xb4-2k_camvid-240x320.py"


def seeds(arm: str) -> range:
    """The seeds that an arm is trained from."""
    return range(NUM_SEEDS.get(arm, 1))
