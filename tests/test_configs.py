"""Configs: MMSegmentation's own, plus what DyNet changes."""

import re
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, input_size, load_config

CONFIGS = Path(__file__).parents[1] / "configs"
ZOO = Path(mmseg.__file__).parent / ".mim/configs"
PATHS = sorted(CONFIGS.glob("dynet/*.py"))
DYNAMIC = [path for path in PATHS if path.stem.startswith("dy-")]
CLASSES = {"ade20k": 150, "camvid": 11, "cityscapes": 19, "synthetic-streets": 19}
CONTROLS = [path for path in PATHS if path.stem.startswith("fix-")]
pytestmark = [
    # PSPNet pools to a few pixels, which no image is a multiple of.
    pytest.mark.filterwarnings("ignore:When align_corners=True:UserWarning"),
    # How the host's heads build the samplers of the zoo's configs.
    pytest.mark.filterwarnings("ignore:``build_pixel_sampler``:UserWarning"),
    # STDC's detail head, whose two classes are those of the zoo.
    pytest.mark.filterwarnings("ignore:For binary segmentation:UserWarning"),
]


def differences(ours: dict, theirs: dict, prefix: str = "") -> set[str]:
    """Dotted names of the keys whose values differ, or that only one has.

    OneDL and OpenMMLab serve the same weights from servers of their own.
    """
    names = set()
    for key in {*ours, *theirs}:
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            names |= differences(mine, other, f"{prefix}{key}.")
        elif (key in ours, path_of(mine)) != (key in theirs, path_of(other)):
            names.add(prefix + key)
    return names


def path_of(value: object) -> object:
    return re.sub("^https://[^/]+", "", value) if isinstance(value, str) else value


def zoo_files() -> dict[Path, Path]:
    """Our configs and MMSegmentation's files of the same name."""
    bases = {
        path: ZOO / path.relative_to(CONFIGS) for path in CONFIGS.glob("_base_/**/*.py")
    }
    named = {file.name: file for file in ZOO.glob("*/*.py")}
    twins = {path: named[path.name] for path in PATHS if path.name in named}
    return {path: file for path, file in (bases | twins).items() if file.is_file()}


SHARED = zoo_files()


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_a_config_named_like_the_zoos_differs_in_hooks_only(path):
    ours, theirs = (Config.fromfile(p).to_dict() for p in (path, SHARED[path]))
    assert differences(ours, theirs) <= {
        "custom_imports",
        "default_hooks.check_setup",
        "default_hooks.checkpoint.type",
        "default_hooks.finite_loss",
    }


def test_number_of_configs_named_like_the_zoos():
    assert len(SHARED) >= 30


@pytest.mark.parametrize(
    ("name", "zoo"),
    [
        ("fcn_r18-d8_4xb2-40k", "fcn/fcn_r18-d8_4xb2-80k"),
        ("pspnet_r18-d8_4xb2-40k", "pspnet/pspnet_r18-d8_4xb2-80k"),
        (
            "mobilenet-v3-d8_lraspp_4xb2-80k",
            "mobilenet_v3/mobilenet-v3-d8_lraspp_4xb4-320k",
        ),
    ],
)
def test_networks_of_the_zoo_on_another_schedule(name, zoo):
    end = "_cityscapes-512x1024.py"
    ours = Config.fromfile(CONFIGS / f"dynet/{name}{end}").model
    assert ours == Config.fromfile(ZOO / f"{zoo}{end}").model


def build_on_meta(cfg: Config) -> torch.nn.Module:
    """Build without memory for weights, except SegNeXt, which computes with numbers."""
    with torch.device("cpu" if "MSCAN" in str(cfg.model.backbone) else "meta"):
        return build_model(cfg).to("meta")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_config_builds_and_is_what_its_name_says(path):
    cfg = load_config(str(path))
    batch, iterations, thousands = re.search(
        r"xb(\d+)-(?:adamw-)?(\d+)(k?)_", path.stem
    ).groups()
    height, width = map(int, re.search(r"(\d{3,})x(\d{3,})", path.stem).groups())
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.train_cfg.max_iters == int(iterations) * (1000 if thousands else 1)
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    crop = next(step for step in cfg.train_pipeline if step.type == "RandomCrop")
    assert tuple(crop.crop_size) == cfg.crop_size == input_size(cfg) == (height, width)
    model = build_on_meta(cfg)
    logits = model(torch.empty(1, 3, 400, 400, device="meta"))
    (num_classes,) = (n for data, n in CLASSES.items() if data in path.stem)
    low_level = {"deeplabv3plus": 4, "lraspp": 2}
    strides = [s for head, s in low_level.items() if head in path.stem]
    stride = strides[0] if strides else 16 if "-d16_" in path.stem else 8
    assert logits.shape == (1, num_classes, 400 // stride, 400 // stride)


def static_base(path: Path) -> Path:
    """What an arm is a difference to: a static network, for some the control."""
    (base,) = re.findall(r'^_base_ = "\./(.+)"$', path.read_text(), re.MULTILINE)
    return path.with_name(base)


@pytest.mark.parametrize("path", [*DYNAMIC, *CONTROLS], ids=lambda path: path.stem)
def test_arms_differ_from_their_static_twin_in_width_and_backbone(path):
    arm, twin = (Config.fromfile(p) for p in (path, static_base(path)))
    names = {
        name
        for name in differences(arm.to_dict(), twin.to_dict())
        if not name.startswith("model.backbone.")
    }
    assert names <= {
        "model.pretrained",
        "model.decode_head.in_channels",
        "model.decode_head.channels",
        "model.decode_head.c1_in_channels",
        "model.decode_head.c1_channels",
        "model.decode_head.ham_channels",
        "model.auxiliary_head",
        "model.auxiliary_head.in_channels",
        "model.auxiliary_head.channels",
        "optim_wrapper.optimizer.lr",
        "optimizer.lr",
    }
    assert arm.model.get("pretrained") is None


@pytest.mark.parametrize("path", CONTROLS, ids=lambda path: path.stem)
def test_a_control_has_the_convolutions_of_its_dynamic_network(path):
    dynamic = path.with_name(path.name.replace("fix-", "dy-"))
    assert static_base(dynamic) in (path, static_base(path))
    counts = []
    for file in (path, dynamic):
        model = build_on_meta(load_config(str(file)))
        counts.append(count_complexity(model, (1, 3, 128, 256)))
    fixed, dynamic = counts
    assert (fixed.convolution, fixed.head) == (dynamic.convolution, dynamic.head)
    assert fixed.fusion == fixed.prediction == 0 < dynamic.fusion


def test_dynamized_backbones_are_those_of_their_controls():
    arms = [p for p in DYNAMIC if "Dynamized" in p.read_text()]
    assert len(arms) == 7
    for path in arms:
        dynamic, control = (Config.fromfile(p) for p in (path, static_base(path)))
        dynamic.model.backbone = dynamic.model.backbone.module
        assert dynamic.to_dict() == control.to_dict()


def macs(name: str) -> int:
    cfg = load_config(str(CONFIGS / f"dynet/{name}.py"))
    with torch.device("meta"):
        model = build_model(cfg)
    return count_complexity(model, (1, 3, *input_size(cfg))).macs


def test_the_papers_pair_saves_what_the_paper_saves():
    """DyNet, table 3: 310.8 G for ResNet50, 69.3 % less for Dy-ResNet50."""
    name = "r50-d8_fcn-oneconv_4xb2-80k_cityscapes-768x768"
    static, dynamic = macs(name), macs(f"dy-{name}")
    assert static / 1e9 == pytest.approx(310.8, rel=0.005)
    assert 1 - dynamic / static >= 0.693


def test_what_the_backbone_alone_saves():
    """With heads as wide as the static network's: 57 %, not 74 %."""
    rest = "4xb2-80k_cityscapes-512x1024"
    static = macs(f"fcn_r50-d8_{rest}")
    assert macs(f"dy-r50-d8_fcn-c512_{rest}") / static == pytest.approx(0.429, abs=1e-3)
    assert macs(f"dy-r50-d8_fcn_{rest}") / static == pytest.approx(0.258, abs=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "dy-r50-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024",
        "dy-mobilenet-v3-d8_lraspp_4xb2-80k_cityscapes-512x1024",
        "dy-r18-d16_fcn_1xb4-2k_camvid-240x320",
        "dy-ddrnet_23_1xb4-2k_camvid-240x320",
        "dy-bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
    ],
)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / f"dynet/{name}.py"))
    model = build_model(cfg).train()
    # LR-ASPP pools 49x49 pixels of its feature map, so it takes larger images.
    size = (400, 400) if "lraspp" in name else (64, 96)
    labels = torch.randint(cfg.model.decode_head.num_classes, (1, *size))
    labels[0, :8] = 255
    sample = SegDataSample(metainfo=dict(img_shape=size))
    sample.gt_sem_seg = PixelData(data=labels)
    losses = model(torch.randn(2, 3, *size), [sample, sample], mode="loss")
    loss, _ = model.parse_losses(losses)
    assert torch.isfinite(loss)
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def depth(path: Path) -> int:
    """The number of files from a config to its last base in the same folder."""
    bases = re.findall(r'"\./(.+\.py)"', path.read_text())
    return 1 + max((depth(path.with_name(base)) for base in bases), default=0)


def test_configs_are_at_most_three_levels_deep():
    assert max(depth(path) for path in CONFIGS.glob("*/*.py")) == 3


def test_metafile_names_configs_and_their_collection():
    index = load(str(CONFIGS.parent / "model-index.yml"))
    metafile = load(str(CONFIGS.parent / index["Import"][0]))
    assert [c["Name"] for c in metafile["Collections"]] == ["DyNet"]
    assert (CONFIGS.parent / metafile["Collections"][0]["README"]).is_file()
    for model in metafile["Models"]:
        assert (CONFIGS.parent / model["Config"]).stem == model["Name"]
        assert CONFIGS.parent / model["Config"] in PATHS
        assert model["In Collection"] == "DyNet"
