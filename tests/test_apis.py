"""Samples are spread over a data set, windows over an image."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.models.segmentors import EncoderDecoder

from mmseg_dynet.apis import spread, windows_shape


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
def test_picks_are_evenly_spread(number, expected):
    assert list(spread(range(11), number)) == expected


@pytest.mark.parametrize("size", [(360, 480), (240, 320), (100, 500), (361, 734)])
@pytest.mark.parametrize("stride", [(160, 213), (240, 320), (7, 9)])
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
