"""Fixtures that tests of several packages share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from packaging.version import Version
from streets import generate_synthetic_streets
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

# The oldest torch computes and trains. It cannot compile all networks (MobileNetV3) or
# export them.
OLD_TORCH = Version(torch.__version__) < Version("2.6")
collect_ignore = ["deploy/test_export.py"] if OLD_TORCH else []

# Tests are small, and run in as many processes as there are cores.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of what an old torch cannot do."""
    skip = pytest.mark.skip(reason=f"torch {torch.__version__} is too old for it")
    for item in items:
        if OLD_TORCH and item.get_closest_marker("recent_torch"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def synthetic_streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of 8 training and 4 validation streets of 128x256. Not to be written to."""
    root = tmp_path_factory.mktemp("data") / "synthetic_streets"
    generate_synthetic_streets(root, num_train=8, num_val=4)
    return root


@pytest.fixture(scope="session")
def draw_norms() -> Callable[[nn.Module], None]:
    """Give every batch norm weights and statistics that are not the identity."""

    def draw(network: nn.Module) -> None:
        for norm in network.modules():
            if isinstance(norm, _BatchNorm):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias)
                nn.init.normal_(norm.running_mean, std=0.1)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)

    return draw
