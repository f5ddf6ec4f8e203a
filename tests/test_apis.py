"""Configs are read, samples picked, shapes of inputs derived."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.models.segmentors import EncoderDecoder

from mmseg_dynet.apis import (
    evenly_spaced,
    inner_datasets,
    input_channels,
    input_size,
    load_config,
    windows_shape,
)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, [0]),
        (2, [0, 10]),
        (3, [0, 5, 10]),
        (5, [0, 2, 5, 8, 10]),
        (None, list(range(11))),
        (99, list(range(11))),
    ],
)
def test_picks_are_evenly_spaced(number, expected):
    assert list(evenly_spaced(range(11), number)) == expected


def test_data_sets_inside_wrappers_are_found_by_their_keys():
    first, second = dict(type="A"), dict(type="B")
    wrapped = dict(type="Repeat", dataset=dict(type="Concat", datasets=[first, second]))
    assert [*inner_datasets(wrapped, "test")] == [
        ("test.dataset.datasets.0", first),
        ("test.dataset.datasets.1", second),
    ]


@pytest.mark.parametrize(
    ("size", "stride"),
    [
        ((360, 480), (160, 213)),
        ((240, 320), (240, 320)),
        ((100, 500), (160, 213)),
        ((361, 734), (240, 320)),
        ((361, 734), (7, 9)),
    ],
)
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


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (dict(model=dict(data_preprocessor=dict(size=(4, 8)))), (3, 4, 8)),
        (
            dict(
                model=dict(
                    backbone=dict(in_channels=4),
                    data_preprocessor=dict(size=None, size_divisor=32, mean=None),
                ),
                crop_size=(5, 7),
            ),
            (4, 5, 7),
        ),
        # The host normalises all channels by a single mean.
        (
            dict(model=dict(data_preprocessor=dict(size=(4, 8), mean=[0.5]))),
            (3, 4, 8),
        ),
        (
            dict(
                model=dict(
                    backbone=dict(type="Dynamized", module=dict(in_channels=1)),
                    data_preprocessor=dict(size=(4, 8)),
                ),
            ),
            (1, 4, 8),
        ),
        (
            dict(
                model=dict(
                    backbone=dict(module=dict(backbone_cfg=dict(in_channels=2)))
                ),
                crop_size=(5, 7),
            ),
            (2, 5, 7),
        ),
    ],
)
def test_shapes_of_inputs_are_those_of_the_config(config, expected):
    cfg = Config(config)
    assert (input_channels(cfg), *input_size(cfg)) == expected


def test_a_config_without_a_size_is_refused():
    with pytest.raises(ValueError, match=r"neither model\.data_preprocessor\.size nor"):
        input_size(Config(dict(model=dict(data_preprocessor=dict(size_divisor=32)))))


def test_options_of_workers_go_where_there_are_none(tmp_path, capsys):
    path = tmp_path / "config.py"
    path.write_text(
        "train_dataloader = dict(num_workers=2, persistent_workers=True)\n"
        "val_dataloader = dict(num_workers=2, persistent_workers=True,\n"
        "                      prefetch_factor=4, timeout=9)\n"
        "test_dataloader = None\n"
    )
    cfg = load_config(path, {"val_dataloader.num_workers": 0})
    assert cfg.train_dataloader == dict(num_workers=2, persistent_workers=True)
    assert cfg.val_dataloader == dict(num_workers=0)
    assert capsys.readouterr().err == (
        "val_dataloader.num_workers is 0: persistent_workers=True has no effect\n"
        "val_dataloader.num_workers is 0: prefetch_factor=4 has no effect\n"
        "val_dataloader.num_workers is 0: timeout=9 has no effect\n"
    )
