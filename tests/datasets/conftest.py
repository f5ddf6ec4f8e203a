"""Data sets and their pipelines are looked up as in a config of MMSegmentation."""

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope
from mmseg.utils import register_all_modules


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    """Make mmseg the default scope, for the test alone."""
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield
