"""The README's table of savings is what the configs come to."""

import re
from pathlib import Path

import pytest

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
STATIC_NAMES = {
    "dy-mobile-": "mobilenet-v2-",
    "dy-shuffle-": "shufflenet-v2-",
    "dy-": "",
}
# static GMACs | dynamic GMACs | saved % | [name](path of the dynamic config)
ROWS = re.findall(
    r"\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) % \| \[`[\w-]+`\]\((\S+)\) \|", README
)


def macs(path: Path) -> int:
    cfg = load_config(str(path))
    return count_complexity(build_model(cfg), (1, 3, *input_size(cfg))).macs


def test_the_table_of_savings_was_found():
    assert len(ROWS) == 7


@pytest.mark.parametrize(("static", "dynamic", "saved", "path"), ROWS)
def test_the_table_of_savings_is_true(static, dynamic, saved, path):
    config = ROOT / path
    twin = next(
        config.with_name(static_name + config.name.removeprefix(prefix))
        for prefix, static_name in STATIC_NAMES.items()
        if config.name.startswith(prefix)
    )
    static_macs, dynamic_macs = macs(twin), macs(config)
    assert f"{static_macs / 1e9:.1f}" == static
    assert f"{dynamic_macs / 1e9:.1f}" == dynamic
    assert f"{100 * (1 - dynamic_macs / static_macs):.1f}" == saved
