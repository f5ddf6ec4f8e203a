"""What people do every day with tools/train.py and test.py, on one tiny config."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.fileio import LocalBackend, register_backend

from mmseg_dynet.apis import build_model, load_config

DYNAMIC, STATIC = "dy-tiny.py", "tiny.py"
SIZE = (32, 64)
FROZEN = "optim_wrapper.optimizer.lr=0"
EPOCHS = (
    "train_cfg._delete_=True", "train_cfg.type=EpochBasedTrainLoop",
    "train_cfg.max_epochs=1", "default_hooks.checkpoint.by_epoch=True",
)  # fmt: skip
TWO_CLASSES = (
    "train_dataloader.dataset.metainfo.classes=('road','car')",
    "val_dataloader.dataset.metainfo.classes=('road','car')",
    "model.decode_head.num_classes=2", "model.auxiliary_head.num_classes=2",
    "model.decode_head.loss_decode.class_weight=None",
    "model.auxiliary_head.loss_decode.class_weight=None",
)  # fmt: skip

Weights = dict[str, torch.Tensor]


@pytest.fixture
def train(run_tool, write_config) -> Callable[..., Weights]:
    """Train for an iteration in the folder run, and return the weights."""
    for arm in ("dy-", ""):
        options = {
            "model.data_preprocessor.size": SIZE,
            "train_dataloader.dataset.pipeline.2.crop_size": SIZE,
            "val_dataloader.dataset.indices": 1,
            "train_cfg.max_iters": 1,
            "train_cfg.val_interval": 1,
            "optim_wrapper.optimizer.lr": 0.05,
            "param_scheduler": [dict(type="PolyLR", end=200, by_epoch=False)],
        }
        write_config(arm, **options)

    def run(*options: str, config: str = DYNAMIC, resume: bool = False) -> Weights:
        arguments = [config, "--work-dir", "run", *(["--resume"] if resume else [])]
        overrides = ["--cfg-options", *options] if options else []
        run_tool("train.py", *arguments, *overrides)
        path = Path(Path("run/last_checkpoint").read_text())
        return torch.load(path, weights_only=False)["state_dict"]

    return run


def log() -> str:
    """The log of the latest run."""
    return max(Path("run").glob("*/*.log"), key=lambda p: p.stat().st_mtime).read_text()


def save_weights(config: str, path: str, prefix: str = "", new: str = "") -> Weights:
    """Save the weights of a random network whose names begin with a prefix."""
    weights = {
        name.replace(prefix, new, 1): weight
        for name, weight in build_model(load_config(config)).state_dict().items()
        if name.startswith(prefix)
    }
    torch.save(dict(state_dict=weights), path)
    return weights


# Weights


def test_weights_of_the_static_twin_are_refused(train):
    save_weights(STATIC, "static.pth")
    match = r"static\.pth does not fit EncoderDecoder.*static2dynet\.py"
    with pytest.raises(ValueError, match=match):
        train("load_from=static.pth")
    assert not list(Path("run").glob("*.pth"))
    save_weights(DYNAMIC, "dynamic.pth")
    match = r"dynamic\.pth does not fit.*same network \(static or dynamic, stem,"
    with pytest.raises(ValueError, match=match):
        train("load_from=dynamic.pth", config=STATIC)


@pytest.mark.parametrize("new", ["", "backbone."])
def test_weights_of_a_backbone_are_loaded(train, run_tool, new):
    given = save_weights(DYNAMIC, "backbone.pth", "backbone.", new)
    weights = train("load_from=backbone.pth", FROZEN)
    name = "layer1.0.conv1.weight"
    assert torch.equal(weights[f"backbone.{name}"], given[f"{new}{name}"])
    with pytest.raises(ValueError, match=r"backbone\.pth does not fit"):
        run_tool("test.py", DYNAMIC, "backbone.pth")


def test_another_number_of_classes_is_fine_tuned(train):
    given = save_weights(DYNAMIC, "cityscapes.pth")
    weights = train("load_from=cityscapes.pth", FROZEN, *TWO_CLASSES)
    for name in ("backbone.conv1.weight", "decode_head.convs.0.conv.weight"):
        assert torch.equal(weights[name], given[name])
    assert weights["decode_head.conv_seg.weight"].shape[0] == 2
    with pytest.raises(ValueError, match=r"does not fit.*decode_head\.convs\.0"):
        width = "model.decode_head.channels=4"
        train("load_from=cityscapes.pth", *TWO_CLASSES, width)


# Classes


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["model.auxiliary_head.num_classes=20"], r"model\.auxiliary_head\.num_c"),
        (
            ["val_dataloader.dataset.metainfo.classes=('road','car')"],
            r"val_dataloader\.dataset \(CityscapesDataset\) has 2 classes",
        ),
    ],
)
def test_classes_that_differ_are_named_before_the_first_step(train, options, match):
    with pytest.raises(ValueError, match=match):
        train(*options)


def test_a_binary_head_is_trained(train):
    binary = ("out_channels=1", "loss_decode.use_sigmoid=True")
    heads = [f"model.decode_head.{option}" for option in binary]
    heads += [f"model.auxiliary_head.{option}" for option in binary]
    whole = "train_dataloader.dataset.pipeline.2.crop_size=(128,256)"
    size = "model.data_preprocessor.size=(128,256)"
    weights = train(*TWO_CLASSES, *heads, whole, size)
    assert weights["decode_head.conv_seg.weight"].shape[0] == 1


def test_a_config_without_our_hooks_is_checked_as_well(train):
    """MMSegmentation's own have none."""
    hooks = ("_delete_=True", "checkpoint.type=CheckpointHook", "checkpoint.interval=1")
    options = [f"default_hooks.{option}" for option in hooks]
    train(*options)
    with pytest.raises(ValueError, match=r"model\.auxiliary_head\.num_classes"):
        train(*options, "model.auxiliary_head.num_classes=20")


# Loops and loaders


def test_an_epoch_of_the_endless_sampler_is_refused(train):
    with pytest.raises(ValueError, match=r"set train_dataloader\.sampler\.type=Defau"):
        train(*EPOCHS)


def test_epochs_are_trained_and_resumed(train):
    epochs = (*EPOCHS, "train_dataloader.sampler.type=DefaultSampler")
    train(*epochs)
    train(*epochs, "train_cfg.max_epochs=2", resume=True)
    assert Path("run/last_checkpoint").read_text().endswith("epoch_2.pth")
    assert "resumed epoch: 1" in log()


def test_a_resumed_training_says_which_settings_it_keeps(train):
    train()
    train("train_cfg.max_iters=2", resume=True)
    assert "Resuming keeps" not in log()
    # The dumped config does not name the checkpoint that was the newest then.
    train("train_cfg.max_iters=3", config=f"run/{DYNAMIC}")
    assert "resumed epoch: 0, iter: 2" in log()
    options = ("optim_wrapper.optimizer.lr=0.5", "param_scheduler.0.end=99")
    train("train_cfg.max_iters=4", *options, resume=True)
    assert "lr is 0.05 (config: 0.5)" in log()
    assert "end is 200 (config: 99)" in log()
    Path("cosine.py").write_text(
        f"_base_ = '{DYNAMIC}'\nresume = True\n"
        "param_scheduler = [dict(type='CosineAnnealingLR', T_max=9, by_epoch=False)]"
    )
    train("train_cfg.max_iters=5", config="cosine.py")
    assert "T_max is None (config: 9)" in log()


def test_training_resumes_from_the_checkpoint_that_is_named(train):
    options = ("default_hooks.checkpoint.max_keep_ckpts=9", "train_cfg.max_iters=2")
    train(*options)
    train(*options, "load_from=run/iter_1.pth", resume=True)
    assert "resumed epoch: 0, iter: 1" in log()
    newest = Path("run/iter_2.pth")
    newest.write_bytes(newest.read_bytes()[:-1])
    train(*options, resume=True)
    assert "resumed epoch: 0, iter: 1" in log()
    train(*options)
    assert "resumed" not in log()


# Data


def test_missing_data_is_named_by_the_option_that_sets_it(train):
    with pytest.raises(
        ValueError,
        match=r"^val_dataloader\.dataset: .*nowhere/leftImg8bit/val.*--cfg-options "
        r"val_dataloader\.dataset\.data_root=DIR",
    ):
        train("val_dataloader.dataset.data_root=nowhere")
    with pytest.raises(
        ValueError, match=r"^train_dataloader\.dataset: it has no samples"
    ):
        train("train_dataloader.dataset.img_suffix=.jpg")
    plain = ("type=BaseSegDataset", "test_mode=True", "img_suffix=.png")
    with pytest.raises(
        ValueError, match=r"^val_dataloader\.dataset: dataset metainfo `classes` should"
    ):
        train(*(f"val_dataloader.dataset.{option}" for option in plain))


class Remote(LocalBackend):
    """Storage whose addresses begin with "remote:/"."""

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name not in ("get", "list_dir_or_file", "exists"):
            return method
        return lambda path, *args, **kwargs: method(
            path.removeprefix("remote:/"), *args, **kwargs
        )


WRAPPED = """
_base_ = "dy-tiny.py"
source = _base_.train_dataloader.dataset
backend = dict(backend="remote")
source.update(data_root="remote:/{root}", backend_args=backend, ann_file="{names}")
source.pipeline[0].backend_args = source.pipeline[1].backend_args = backend
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="RepeatDataset",
        times=2,
        dataset=dict(type="ConcatDataset", datasets=[source]),
    ),
)
del source, backend
"""


def test_remote_and_wrapped_data_is_trained_on(train, tiny_cityscapes):
    register_backend("remote", Remote, prefixes="remote", force=True)
    names = Path("names.txt").resolve()
    names.write_text("city/city_000000_000019\n")
    Path("wrapped.py").write_text(WRAPPED.format(root=tiny_cityscapes, names=names))
    train(config="wrapped.py")
    assert Path("run/iter_1.pth").is_file()
    gone = "train_dataloader.dataset.dataset.datasets.0.ann_file=gone.txt"
    with pytest.raises(ValueError, match=r"dataset\.datasets\.0\.data_root=DIR"):
        train(gone, config="wrapped.py")
