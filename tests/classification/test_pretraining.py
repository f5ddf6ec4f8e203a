"""From ImageNet to segmentation: every weight of the backbone arrives.

For each network, weight by weight and in function; and once for real, through the tools
and the config that ``docs/training.md`` shows.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import mmpretrain.models  # noqa: F401  these tests are worth nothing without it
import numpy as np
import pytest
import torch
from mmengine.runner import save_checkpoint
from PIL import Image

from mmseg_dynet.apis import build_model, load_config

ROOT = Path(__file__).parents[2]
SEGMENTORS = ROOT / "configs/dynet"
NETWORKS = sorted(
    path.stem.split("_")[0] for path in ROOT.glob("configs/imagenet/*.py")
)


def config_path(network: str) -> Path:
    return ROOT / "configs/imagenet" / f"{network}_8xb256_in1k.py"


@dataclass(frozen=True)
class Transfer:
    """A classifier, and the segmentation network that takes its backbone.

    Attributes:
        source: Network of the ImageNet config.
        target: Name of the segmentation network's config, as far as its schedule.
        dropped: Prefix of the weights that only the classifier has.
        source_options: Overrides of the ImageNet config.
        target_options: Overrides of the segmentation network's.
    """

    source: str
    target: str
    dropped: str | None = None
    source_options: dict = field(default_factory=dict)
    target_options: dict = field(default_factory=dict)

    @property
    def target_path(self) -> Path:
        """The segmentation network's config, for the smallest images that it has."""
        return min(SEGMENTORS.glob(f"{self.target}_4xb2-80k_cityscapes-*.py"))


PLAIN_STEM = {"model.backbone.deep_stem": False}
WIDER = {
    "model.backbone.widen_factor": 1.5,
    "model.decode_head.in_channels": 704,
    "model.auxiliary_head.in_channels": 352,
}
SMALL = {
    "model.backbone.arch": "small",
    "model.backbone.out_indices": (0, 1, 12),
    "model.decode_head.in_channels": (16, 16, 576),
}
DY_SMALL = {
    "model.backbone.arch": "small",
    "model.backbone.strides": (2, 2, 1, 1, 1),
    "model.backbone.dilations": (1, 1, 2, 2, 4),
    "model.backbone.out_indices": (0, 1, 5),
    "model.decode_head.in_channels": (16, 24, 576),
}
LRASPP = "mobilenet-v3-d8_lraspp"
SHUFFLE = "shufflenet-v2-d8_fcn", "stages.3."
DY_SHUFFLE = "dy-shuffle-d8_fcn", "stages.3."
TRANSFERS = [
    Transfer(
        "resnet18", "fcn_r18-d8", target_options={"model.backbone.type": "ResNet"}
    ),
    Transfer("dy-resnet18", "dy-r18-d8_fcn", target_options=PLAIN_STEM),
    Transfer("resnet50", "r50-d8_fcn-oneconv"),
    Transfer("dy-resnet50", "dy-r50-d8_fcn-oneconv"),
    Transfer("resnetv1c18", "fcn_r18-d8"),
    Transfer("dy-resnetv1c18", "dy-r18-d8_fcn"),
    Transfer("resnetv1c50", "pspnet_r50-d8"),
    Transfer("dy-resnetv1c50", "dy-r50-d8_pspnet"),
    Transfer("mobilenet-v2", "mobilenet-v2-d8_fcn-c80", "conv2."),
    Transfer("dy-mobile", "dy-mobile-d8_fcn", "stages.7."),
    Transfer("mobilenet-v3-large", LRASPP),
    Transfer("dy-mobilenet-v3-large", f"dy-{LRASPP}"),
    Transfer("mobilenet-v3-small", LRASPP, target_options=SMALL),
    Transfer("dy-mobilenet-v3-small", f"dy-{LRASPP}", target_options=DY_SMALL),
    Transfer("shufflenet-v2-1x", *SHUFFLE),
    Transfer("dy-shuffle-1x", *DY_SHUFFLE),
    Transfer("shufflenet-v2-1.5x", *SHUFFLE, target_options=WIDER),
    Transfer("dy-shuffle-1.5x", *DY_SHUFFLE, target_options=WIDER),
]
# What docs/training.md overrides to train the controls.
NO_KERNELS = {"model.backbone.num_kernels": None}
HALF_WIDTH = {"model.backbone.base_channels": 32, "model.head.in_channels": 256}
CONTROLS = [
    Transfer("dy-mobile", "fix-mobile-d8_fcn", "stages.7.", NO_KERNELS),
    Transfer("dy-shuffle-1x", "fix-shuffle-d8_fcn", "stages.3.", NO_KERNELS),
    Transfer("resnetv1c18", "fix-r18-d8_fcn", None, HALF_WIDTH),
]


def test_every_network_is_transferred():
    assert sorted(t.source for t in TRANSFERS) == NETWORKS
    assert len(NETWORKS) == 18


def make_every_weight_its_own(model: torch.nn.Module) -> None:
    """Move all weights, and what norms remember, off the values they are born with."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.1 * torch.rand_like(tensor))
            tensor.add_(0.01 * torch.rand_like(tensor))
        else:
            tensor.add_(7)


# Both scopes, mmpretrain's and mmseg's, take turns in this process.
@pytest.mark.filterwarnings("ignore:The current default scope:UserWarning")
@pytest.mark.parametrize(
    "case", TRANSFERS + CONTROLS, ids=lambda case: f"{case.source}-{case.target}"
)
def test_every_weight_arrives_and_means_the_same(case, tmp_path):
    torch.manual_seed(0)
    checkpoint = tmp_path / "classifier.pth"
    classifier = build_model(
        load_config(str(config_path(case.source)), case.source_options)
    )
    make_every_weight_its_own(classifier)
    save_checkpoint(dict(state_dict=classifier.state_dict()), str(checkpoint))

    pretrained = {
        "model.pretrained": None,
        "model.backbone.init_cfg.type": "Pretrained",
        "model.backbone.init_cfg.checkpoint": str(checkpoint),
        "model.backbone.init_cfg.prefix": "backbone.",
    }
    options = case.target_options | pretrained
    segmentor = build_model(load_config(str(case.target_path), options))
    segmentor.init_weights()

    source, target = (m.backbone.state_dict() for m in (classifier, segmentor))
    dropped = {n for n in source if case.dropped and n.startswith(case.dropped)}
    assert bool(dropped) == bool(case.dropped)
    assert target.keys() == source.keys() - dropped
    for name, weight in target.items():
        assert torch.equal(weight, source[name]), name

    # Up to where the segmentation network keeps its resolution, both are one function.
    classifier.backbone.out_indices = segmentor.backbone.out_indices
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features, expected = segmentor.backbone(images), classifier.backbone(images)
    pairs = zip(features, expected, strict=True)
    pairs = [(f, e) for f, e in pairs if f.shape == e.shape]
    assert pairs
    for feature, wanted in pairs:
        torch.testing.assert_close(feature, wanted)


def run_tool(tool: str, *arguments: object) -> str:
    """Run a tool as a user does, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools" / tool, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout


def small_run(**loader_options: object) -> list[str]:
    """Options that make a run small."""
    shared = dict(num_workers=0, persistent_workers=False, batch_size=2)
    return [
        f"{split}_dataloader.{key.replace('__', '.')}={value}"
        for split in ("train", "val", "test")
        for key, value in (shared | loader_options).items()
    ]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with 8 images of ImageNet to train on and 4 to test on, and configs."""
    root = tmp_path_factory.mktemp("workplace")
    rng = np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 4)):
        folder = root / "data/imagenet" / split
        folder.mkdir(parents=True)
        for i in range(number):
            pixels = rng.integers(256, size=(60, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")
        # In place of a folder for each of the 1000 classes.
        labels = root / "data/imagenet/meta" / f"{split}.txt"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text("".join(f"{i}.jpg {111 * i}\n" for i in range(number)))
    shutil.copytree(ROOT / "configs", root / "configs")
    return root


@pytest.fixture(scope="module")
def trained(workplace):
    """Weights of Dy-mobile after two epochs of four steps, and the last validation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        options = [*small_run(), "train_cfg.max_epochs=2"]
        config = config_path("dy-mobile")
        run_tool("train.py", config, "--cfg-options", *options)
        checkpoint = workplace / "work_dirs" / config.stem / "epoch_2.pth"
        (log,) = checkpoint.parent.glob("*/vis_data/scalars.json")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        tested = run_tool("test.py", config, checkpoint, "--cfg-options", *options)
    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    assert content["meta"]["iter"] == 8
    top5 = [line["accuracy/top5"] for line in lines if "accuracy/top5" in line]
    assert len(top5) == 2
    assert f"accuracy/top5: {top5[-1]:.4f}" in tested
    return content["state_dict"]


@pytest.fixture
def documented(workplace, trained, monkeypatch):
    """The config that the documentation shows, and where it says it is."""
    monkeypatch.chdir(workplace)
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (code,) = (block for block in blocks if "init_cfg" in block)
    path = "pretrained.py"
    Path(path).write_text(code, encoding="utf-8")
    checkpoint = load_config(path).model.backbone.init_cfg.checkpoint
    # The documented run is longer.
    Path(checkpoint).unlink(missing_ok=True)
    shutil.copy(Path(checkpoint).with_name("epoch_2.pth"), checkpoint)
    return path


def streets_run(root: Path) -> list[str]:
    """Options of one step on small streets, which changes norms' statistics only."""
    crop = ["train_dataloader.dataset.pipeline.2.scale=(256,128)",
            "train_dataloader.dataset.pipeline.3.crop_size=(64,128)",
            "val_dataloader.dataset.pipeline.1.scale=(256,128)",
            "model.data_preprocessor.size=(64,128)"]  # fmt: skip
    schedule = ["train_cfg.max_iters=1", "optim_wrapper.optimizer.lr=0.0",
                "param_scheduler=[]"]  # fmt: skip
    return [*small_run(dataset__data_root=root), *crop, *schedule]


def test_the_documented_config_starts_from_the_trained_weights(
    documented, trained, tiny_cityscapes
):
    options = streets_run(tiny_cityscapes)
    run_tool("train.py", documented, "--work-dir", "run", "--cfg-options", *options)
    segmentor = torch.load("run/iter_1.pth", weights_only=False)["state_dict"]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    names = [n for n in segmentor if n.startswith("backbone.")]
    learned = [n for n in names if not n.endswith(statistics)]
    dropped = [n for n in trained if n.startswith("backbone.stages.7.")]
    in_classifier = [n for n in trained if n.startswith("backbone.")]
    assert sorted(names) == sorted(set(in_classifier) - set(dropped))
    assert len(learned) > 150
    for name in learned:
        assert torch.equal(segmentor[name], trained[name]), name
