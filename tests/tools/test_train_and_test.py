"""Train and test through the tools, and through the host's own."""

import json
from glob import glob
from pathlib import Path

import cv2
import mmseg
import numpy as np
import pytest
import torch
from mmengine.runner import save_checkpoint

from mmseg_dynet.apis import build_model, load_config


def last_metrics(work_dir: str) -> dict:
    """The metrics of the last validation or test in a work dir."""
    logs = sorted(Path(work_dir).glob("*/vis_data/scalars.json")) + sorted(
        Path(work_dir).glob("*/*.json")
    )
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [line for line in lines if "mIoU" in line][-1]


def test_train_resume_and_test(run_tool, write_config):
    metrics = [dict(type="IoUMetric", iou_metrics=["mIoU"])]
    config = write_config("dy-", test_evaluator=metrics)
    run_tool("train.py", config, "--work-dir", "run")
    trained = torch.load("run/iter_2.pth", map_location="cpu", weights_only=False)
    bank = trained["state_dict"]["backbone.layer1.0.conv1.weight"]
    assert bank.shape == (8, 6, 64, 3, 3)
    validated = last_metrics("run")

    run_tool("test.py", config, "run/iter_2.pth", "--work-dir", "test",
             "--out", "predictions", "--show-dir", "painted")  # fmt: skip
    assert last_metrics("test")["mIoU"] == validated["mIoU"]
    shapes = [cv2.imread(path).shape for path in glob("predictions/*.png")]
    assert shapes == [(128, 256, 3)] * 4
    assert len(list(Path("painted").rglob("*.png"))) == 4

    run_tool("train.py", config, "--work-dir", "run", "--resume", "--amp",
             "--cfg-options", "train_cfg.max_iters=3")  # fmt: skip
    log = max(Path("run").glob("*/*.log")).read_text()
    assert "type='BFloat16OptimWrapper'" in log
    assert "resumed epoch: 0, iter: 2" in log
    assert Path("run/iter_3.pth").is_file()
    with pytest.raises(ValueError, match="--amp would replace"):
        run_tool("train.py", config, "--amp", "--cfg-options",
                 "optim_wrapper.type=ApexOptimWrapper")  # fmt: skip


def test_configs_run_under_the_hosts_own_tools(run_tool, write_config):
    config = write_config("dy-")
    # An absolute path takes the place of our tools' folder.
    host_tools = Path(mmseg.__file__).parent / ".mim/tools"
    run_tool(host_tools / "train.py", config, "--work-dir", "run")
    validated = last_metrics("run")
    run_tool(host_tools / "test.py", config, "run/iter_2.pth", "--work-dir", "test")
    assert last_metrics("test")["mIoU"] == validated["mIoU"]


def test_an_augmented_test_predicts_what_that_of_the_hosts_tool_does(
    run_tool, write_config, save_weights
):
    config = write_config("dy-")
    weights = save_weights(config)
    host_tools = Path(mmseg.__file__).parent / ".mim/tools"
    run_tool("test.py", config, weights, "--tta", "--out", "ours")
    run_tool(host_tools / "test.py", config, weights, "--tta", "--out", "theirs")
    names = sorted(path.name for path in Path("ours").glob("*.png"))
    assert len(names) == 4
    for name in names:
        ours, theirs = (cv2.imread(f"{folder}/{name}") for folder in ("ours", "theirs"))
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("options", [(), ("--tta",)])
def test_weights_of_another_network_are_not_tested(
    options, run_tool, write_config, save_weights
):
    """MMEngine would log what is missing, and test a partly random network."""
    weights = save_weights(write_config("dy-", **{"model.backbone.num_kernels": 2}))
    with pytest.raises(ValueError, match=r"tiny.*layer1\.0\.conv1\.weight"):
        run_tool("test.py", write_config("dy-"), weights, *options)


def test_a_test_needs_no_weights_of_the_auxiliary_head(
    run_tool, write_config, save_weights
):
    config = write_config("dy-")
    weights = torch.load(save_weights(config))["state_dict"]
    bare = {n: w for n, w in weights.items() if not n.startswith("auxiliary_head.")}
    assert len(bare) < len(weights)
    save_checkpoint(dict(state_dict=bare), "bare.pth")
    run_tool("test.py", config, "bare.pth", "--work-dir", "test",
             "--cfg-options", "resume=True")  # fmt: skip
    assert last_metrics("test")["mIoU"] > 0
    model = build_model(load_config(config), "bare.pth")
    assert torch.equal(model.backbone.conv1.weight, bare["backbone.conv1.weight"])
