"""The model zoo lists what there is, and claims no accuracy that was not found."""

import json
import shutil
from pathlib import Path

import pytest

from mmseg_dynet.markdown import read_block
from mmseg_dynet.model_zoo import read_accuracy, render, segmentor_configs

ROOT = Path(__file__).parents[1]
TRAINED = "configs/dynet/r18-d16_fcn_1xb4-2k_camvid-240x320.py"
UNTRAINED = "configs/dynet/dy-r18-d16_fcn_1xb4-2k_camvid-240x320.py"


# PSPNet's resized pools, of a feature map of 769 / 8 pixels.
@pytest.mark.filterwarnings("ignore:When align_corners=True")
def test_the_page_is_up_to_date():
    page = read_block(ROOT / "docs/model_zoo.md", "model-zoo")
    assert page == render(ROOT).strip()
    configs = [p.relative_to(ROOT).as_posix() for p in segmentor_configs(ROOT)]
    assert len(configs) > 60
    assert [c for c in configs if page.count(f"(../{c})") != 1] == []


@pytest.fixture
def root(tmp_path):
    """Two configs, one of which a metafile has a result of; JSON is YAML."""
    (tmp_path / "configs/dynet").mkdir(parents=True)
    (tmp_path / "configs/_base_").symlink_to(ROOT / "configs/_base_")
    for config in (TRAINED, UNTRAINED):
        shutil.copy(ROOT / config, tmp_path / config)
    results = [{"Task": "Semantic Segmentation", "Metrics": {"mIoU": 61.5}}]
    classifier = {"Config": "configs/imagenet/a.py", "Results": [{"Metrics": {}}]}
    trained = {
        "Config": TRAINED,
        "Metadata": {"Seeds": 3, "Precision": "float32"},
        "Results": results,
    }
    models = [trained, {"Config": UNTRAINED}]
    metafile = json.dumps({"Models": [*models, classifier]})
    (tmp_path / "configs/dynet/metafile.yml").write_text(metafile)
    (tmp_path / "model-index.yml").write_text("Import: [configs/dynet/metafile.yml]")
    return tmp_path


def test_accuracy_comes_from_the_metafiles(root):
    assert read_accuracy(root) == {TRAINED: "61.50 (3 seeds, float32)"}
    lines = render(root).splitlines()
    rows = [[c.strip() for c in line.split("|")] for line in lines if "](../" in line]
    assert [row[1] for row in rows] == [
        f"[`{Path(config).stem}`](../{config})" for config in (TRAINED, UNTRAINED)
    ]
    assert [row[4] for row in rows] == ["61.50 (3 seeds, float32)", "not trained here"]


def test_a_name_without_a_known_data_set_is_an_error(root):
    (root / UNTRAINED).rename(root / "configs/dynet/dy-r18-d16_fcn_1xb4-2k_moon-240.py")
    with pytest.raises(ValueError, match=r"moon-240\.py names none of cityscapes, cam"):
        render(root)
