"""Fixtures that tests of several packages share."""

from pathlib import Path

import pytest
import torch

from mmseg_dynet.datasets.synthetic_streets import generate_synthetic_streets

# Tests are small, and run in as many processes as there are cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def synthetic_streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of 8 training and 4 validation streets of 128x256. Not to be written to."""
    root = tmp_path_factory.mktemp("data") / "synthetic_streets"
    generate_synthetic_streets(root, num_train=8, num_val=4)
    return root
