"""Every config loads, builds, runs and learns, and says what its name says."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, input_size
from mmseg_dynet.cli import load_config

CONFIGS = Path(__file__).parents[1] / "configs"
# Configs of each family, with what there are so many of.
FAMILIES = {
    # Three arms each of: R18 and R50 in 40k, 80k, 769x769 and on CamVid; the paper's
    # pair; synthetic streets; the MobileNets; the ShuffleNets. And g_t = 1, 2, 4, and
    # a student.
    "fcn": 3 * (2 * 4 + 1 + 1 + 1 + 1) + 3 + 1,
    "pspnet": 3 * (2 * 3),
    "deeplabv3plus": 3,
    "lraspp": 2,  # of the same width: the static twin is the control
}
PATHS = sorted(p for family in FAMILIES for p in CONFIGS.glob(f"{family}/*.py"))
# A student needs its teacher's checkpoint to learn: tests/models/test_distillation.py.
ALONE = [p for p in PATHS if "-distilled_" not in p.stem]
ARMS = ("", "dy-", "fix-")


def test_there_are_as_many_as_documented():
    by_family = {f: len([p for p in PATHS if p.parent.name == f]) for f in FAMILIES}
    assert by_family == FAMILIES


def logits_stride(path: Path) -> int:
    """Stride of a head's output: of the backbone's, or of a low-level feature."""
    low_level = {"deeplabv3plus": 4, "lraspp": 2}
    return low_level.get(path.parent.name, 16 if "-d16_" in path.stem else 8)


def losses_on_random_images(model, num_classes: int, size: tuple[int, int]) -> dict:
    inputs = torch.randn(2, 3, *size)
    samples = []
    for _ in range(2):
        labels = torch.randint(num_classes, (1, *size))
        sample = SegDataSample(metainfo=dict(img_shape=size))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return model(inputs, samples, mode="loss")


# PSPNet pools to a few pixels, which no image this small is a multiple of.
@pytest.mark.filterwarnings("ignore:When align_corners=True")
@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_config_builds_runs_and_learns(path):
    torch.manual_seed(0)
    cfg = load_config(str(path))
    model = build_model(cfg)
    num_classes = 11 if "camvid" in path.stem else 19
    # LR-ASPP pools 49x49 pixels of its feature map, so it takes larger images.
    height, width = (400, 400) if path.parent.name == "lraspp" else (64, 96)
    with torch.no_grad():
        logits = model(torch.randn(1, 3, height, width))
    stride = logits_stride(path)
    assert logits.shape == (1, num_classes, height // stride, width // stride)

    model.train()
    losses = losses_on_random_images(model, num_classes, (height, width))
    loss = sum(value for name, value in losses.items() if "loss" in name)
    assert torch.isfinite(loss)
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_config_says_what_its_name_says(path):
    cfg = load_config(str(path))
    *_, schedule_and_batch, data = path.stem.split("_")
    batch, schedule = schedule_and_batch.split("-")
    assert cfg.train_dataloader.batch_size == int(batch.split("xb")[1])
    max_iters = int(schedule.replace("k", "000"))
    assert cfg.train_cfg.max_iters == max_iters
    assert cfg.param_scheduler[-1].end == max_iters
    height, width = map(int, data.split("-")[-1].split("x"))
    assert input_size(cfg) == (height, width)
    crop = next(t for t in cfg.train_pipeline if t.type == "RandomCrop")
    assert tuple(crop.crop_size) == (height, width)


def model_of(arm: str, rest: str) -> dict:
    (path,) = CONFIGS.glob(f"*/{arm}{rest}.py")
    return Config.fromfile(path).model


@pytest.mark.parametrize(
    "rest",
    sorted(
        {p.stem.removeprefix("dy-") for p in ALONE if re.match("dy-r[0-9]+-d", p.stem)}
    ),
)
def test_arms_differ_in_the_backbone_and_its_width_only(rest):
    static, dynamic, fixed = (model_of(arm, rest) for arm in ARMS)
    for model in (static, dynamic, fixed):
        for head in (model.decode_head, model.auxiliary_head):
            # "Heads scale with the backbone": their width is a quarter of their input.
            assert head.pop("channels") == head.in_channels // 4
            head.pop("in_channels")
            head.pop("c1_in_channels", None)
            head.pop("c1_channels", None)
        backbone = model.pop("backbone")
        assert backbone.get("base_channels", 64) == (32 if model is fixed else 64)
    assert static == dynamic == fixed


def test_dynamic_config_is_its_control_with_coefficients():
    """Dy- and Fix- have the same convolutions; the dynamic part comes on top."""
    rest = "r18-d8_fcn_4xb2-40k_cityscapes-512x1024"
    shape = (1, 3, 128, 256)
    static, dynamic, fixed = (
        count_complexity(
            build_model(load_config(str(CONFIGS / "fcn" / f"{arm}{rest}.py"))), shape
        )
        for arm in ARMS
    )
    assert dynamic.convolution == fixed.convolution
    assert dynamic.head == fixed.head
    assert fixed.fusion == fixed.prediction == 0
    assert 0 < dynamic.fusion + dynamic.prediction < 0.02 * static.macs


def test_the_papers_pair_saves_what_the_paper_saves():
    """DyNet, table 3: 310.8 G for ResNet50, 69.3 % less for Dy-ResNet50."""
    rest = "r50-d8_fcn-oneconv_4xb2-80k_cityscapes-768x768"
    static, dynamic = (
        count_complexity(
            build_model(load_config(str(CONFIGS / "fcn" / f"{arm}{rest}.py"))),
            (1, 3, 768, 768),
        ).macs
        for arm in ("", "dy-")
    )
    assert static / 1e9 == pytest.approx(310.8, rel=0.005)
    assert 1 - dynamic / static >= 0.693
