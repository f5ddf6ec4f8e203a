"""What the README says is so: its figures, its files, its config."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import load_config
from mmseg_dynet.ops import DyConv2d

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


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "//" not in link]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_ten_line_config_builds(tmp_path):
    (block,) = (
        b for b in re.findall(r"```python\n(.*?)```", README, re.S) if "DyResNet" in b
    )
    base = ROOT / "configs/fcn/r50-d8_fcn_4xb2-80k_cityscapes-512x1024.py"
    config = tmp_path / "config.py"
    config.write_text(block.replace("./my_fcn_r50-d8_config.py", str(base)))
    model = build_model(Config.fromfile(config))
    assert any(isinstance(m, DyConv2d) for m in model.backbone.modules())
    assert model.auxiliary_head.convs[0].conv.num_kernels == 4
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, 19, 8, 8)
