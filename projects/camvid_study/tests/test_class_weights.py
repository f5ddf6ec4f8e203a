"""Shares and weights of classes, against numbers worked out by hand."""

import numpy as np
import pytest
from mmseg.datasets import BaseSegDataset
from PIL import Image
from study.class_weights import balancing_weights, class_shares


@pytest.fixture
def dataset(tmp_path):
    """Two maps of 2x5: 10 pixels of which one is void, and 10 of class 0."""
    maps = [[[0, 0, 0, 1, 1], [1, 1, 1, 1, 255]], [[0] * 5] * 2]
    for folder in ("img", "ann"):
        (tmp_path / folder).mkdir()
    for number, labels in enumerate(maps):
        Image.new("RGB", (5, 2)).save(tmp_path / f"img/{number}.jpg")
        labels = Image.fromarray(np.array(labels, np.uint8))
        labels.save(tmp_path / f"ann/{number}.png")

    def build(**changes):
        prefix = dict(img_path="img", seg_map_path="ann")
        options = dict(data_root=str(tmp_path), data_prefix=prefix, **changes)
        return BaseSegDataset(**options)

    return build


def test_shares_are_of_labelled_pixels(dataset):
    built = dataset(metainfo=dict(classes=("road", "car", "train")))
    assert class_shares(built) == pytest.approx(
        {"road": 13 / 19, "car": 6 / 19, "train": 0.0}
    )


def test_reduce_zero_label_makes_the_first_class_void(dataset):
    built = dataset(metainfo=dict(classes=("car",)), reduce_zero_label=True)
    assert class_shares(built) == {"car": 1.0}


def test_a_label_without_a_class_is_an_error_that_names_the_file(dataset):
    built = dataset(metainfo=dict(classes=("road",)))
    with pytest.raises(ValueError, match=r"0\.png holds the label 1: allowed"):
        class_shares(built)


def test_maps_without_any_class_are_an_error(dataset):
    built = dataset(metainfo=dict(classes=("road", "car")), ignore_index=0, indices=[1])
    with pytest.raises(ValueError, match="none of 1 label maps has a pixel of the cla"):
        class_shares(built)


def test_weights_follow_enet_at_a_mean_of_one():
    shares = {"road": 0.9, "pole": 0.1}
    weights = balancing_weights(shares, 1.1)
    # 1 / ln 2 = 1.4427 and 1 / ln 1.2 = 5.4848, their mean over pixels 1.8469
    assert weights == pytest.approx({"road": 0.78114, "pole": 2.96973}, abs=1e-5)
    enet = balancing_weights(shares, 1.02)
    assert enet["pole"] / enet["road"] == pytest.approx(5.75605, abs=1e-5)


@pytest.mark.parametrize("offset", [1.0, 0.5, float("nan")])
def test_an_offset_that_gives_infinite_weights_is_an_error(offset):
    with pytest.raises(ValueError, match="offset must be above 1, got"):
        balancing_weights({"road": 1.0}, offset)
