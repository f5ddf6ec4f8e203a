"""Configs are read, samples picked, shapes of inputs derived."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.models.segmentors import EncoderDecoder

from mmseg_dynet.apis import (
    build_model,
    classes_and_palette,
    evenly_spaced,
    inner_datasets,
    input_channels,
    input_size,
    load_config,
    windows_shape,
)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, [0]), (2, [0, 10]), (5, [0, 2, 5, 8, 10]), (None, [*range(11)])],
)
def test_picks_are_evenly_spaced(number, expected):
    assert list(evenly_spaced(range(11), number)) == expected


def test_weights_of_another_network_are_refused(write_config, save_weights):
    static = save_weights(write_config(""))
    with pytest.raises(ValueError, match="does not fit EncoderDecoder"):
        build_model(load_config(write_config("dy-")), static)


def test_data_sets_inside_wrappers_are_found_by_their_keys():
    first, second = dict(type="A"), dict(type="B")
    concat = dict(type="Concat", datasets=[first, second])
    wrapped = ConfigDict(type="Repeat", dataset=concat)
    assert [*inner_datasets(wrapped, "test")] == [
        ("test.dataset.datasets.0", first),
        ("test.dataset.datasets.1", second),
    ]


@pytest.mark.parametrize(
    ("size", "stride"),
    [((360, 480), (160, 213)), ((240, 320), (240, 320)), ((100, 500), (160, 213)),
     ((361, 734), (240, 320)), ((361, 734), (7, 9))],
)  # fmt: skip
def test_windows_are_those_of_the_host(size, stride):
    test_cfg = ConfigDict(mode="slide", crop_size=(240, 320), stride=stride)
    shapes = []

    def record(window: torch.Tensor, _: list) -> torch.Tensor:
        shapes.append(tuple(window.shape))
        return window[:, :1]

    stub = SimpleNamespace(test_cfg=test_cfg, out_channels=1, encode_decode=record)
    EncoderDecoder.slide_inference(stub, torch.zeros(1, 3, *size), [{}])
    cfg = Config(dict(model=dict(test_cfg=test_cfg)))
    count, *shape = windows_shape(cfg, size)
    assert shapes == [(1, *shape)] * count


@pytest.mark.parametrize("model", [{}, dict(test_cfg=dict(mode="whole"))])
def test_an_image_is_one_window_where_nothing_slides(model):
    assert windows_shape(Config(dict(model=model)), (5, 7)) == (1, 3, 5, 7)


SIZE, FOUR = dict(size=(4, 8)), dict(in_channels=4)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (dict(data_preprocessor=SIZE), (3, 4, 8)),
        # The host normalises all channels by a single mean.
        (dict(data_preprocessor=dict(mean=[0.5], **SIZE)), (3, 4, 8)),
        (dict(data_preprocessor=dict(size=None), backbone=FOUR), (4, 5, 7)),
        (dict(backbone=dict(module=dict(backbone_cfg=FOUR))), (4, 5, 7)),
        (dict(module=dict(data_preprocessor=SIZE, backbone=FOUR)), (4, 4, 8)),
    ],
)
def test_shapes_of_inputs_are_those_of_the_config(model, expected):
    cfg = Config(dict(model=model, crop_size=(5, 7)))
    assert (input_channels(cfg), *input_size(cfg)) == expected


def test_classes_need_no_files():
    """PASCAL VOC's class looks for them as soon as it is built."""
    data = dict(type="PascalVOCDataset", ann_file="gone.txt")
    cfg = Config(dict(test_dataloader=dict(dataset=data)))
    classes, palette = classes_and_palette(cfg)
    assert (len(classes), palette[17]) == (21, [128, 64, 0])
    cfg.test_dataloader.dataset.metainfo = dict(classes=("sheep",))
    assert classes_and_palette(cfg) == (["sheep"], [[128, 64, 0]])


def test_a_config_without_a_size_is_refused():
    with pytest.raises(ValueError, match=r"neither model\.data_preprocessor\.size nor"):
        input_size(Config(dict(model=dict(data_preprocessor=dict(size_divisor=32)))))


def test_a_config_is_read_as_a_runner_takes_it(tmp_path, capsys):
    path = tmp_path / "config.py"
    path.write_text(
        "model = dict(type='A')\ndata_preprocessor = dict(size=(4, 8))\n"
        "train_dataloader = dict(num_workers=2, persistent_workers=True)\n"
        "val_dataloader = dict(num_workers=2, persistent_workers=True,\n"
        "                      prefetch_factor=4, timeout=9)\n"
        "test_dataloader = None\n"
    )
    cfg = load_config(path, {"val_dataloader.num_workers": 0})
    assert cfg.model == dict(type="A", data_preprocessor=dict(size=(4, 8)))
    assert cfg.train_dataloader == dict(num_workers=2, persistent_workers=True)
    assert cfg.val_dataloader == dict(num_workers=0)
    assert capsys.readouterr().err == (
        "val_dataloader.num_workers is 0: persistent_workers=True has no effect\n"
        "val_dataloader.num_workers is 0: prefetch_factor=4 has no effect\n"
        "val_dataloader.num_workers is 0: timeout=9 has no effect\n"
    )
