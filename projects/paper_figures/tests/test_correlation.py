"""Correlations are NumPy's over all pixels at once; bins are counted by hand."""

import numpy as np
import pytest
import torch
from figures.channels import (
    ChannelCorrelation,
    pair_correlations,
    summarize,
)


def correlate(*feature_maps: torch.Tensor) -> np.ndarray:
    correlation = ChannelCorrelation()
    for features in feature_maps:
        correlation.update(features)
    return correlation.matrix()


def numpy_correlate(*feature_maps: torch.Tensor) -> np.ndarray:
    """The same from one table of all pixels, with one row per channel."""
    images = [image.flatten(1).double() for f in feature_maps for image in f]
    return np.corrcoef(torch.cat(images, 1))


def draw_maps() -> tuple[torch.Tensor, torch.Tensor]:
    """Mixtures of noise, whose means are far from 0 and differ between the maps."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(5, 5, generator=generator)
    noise = [torch.randn(2, 5, 4, 6, generator=generator),
             torch.randn(1, 5, 3, 7, generator=generator)]  # fmt: skip
    first, second = (torch.einsum("oc,bchw->bohw", mix, x) for x in noise)
    return first + 1000, second + 1002


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_correlations_are_those_of_numpy_over_all_pixels(dtype):
    maps = [features.to(dtype) for features in draw_maps()]
    np.testing.assert_allclose(correlate(*maps), numpy_correlate(*maps), atol=1e-12)


def test_constant_channels_are_left_out_and_counted():
    maps = draw_maps()
    for features in maps:
        features[:, 1] = 0.1
    matrix = correlate(*maps)
    assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all()
    varying = [0, 2, 3, 4]
    expected = numpy_correlate(*(features[:, varying] for features in maps))
    np.testing.assert_allclose(matrix[np.ix_(varying, varying)], expected, atol=1e-12)
    summary = summarize(matrix)
    assert (summary["channels"], summary["constant"], summary["pairs"]) == (5, 1, 6)


def test_bins_by_hand():
    #    N               W           M            S
    r = [-0.1, 0.199, 0, 0.2, -0.39, 0.4, -0.599, 0.6, -0.7, 1]
    matrix = np.eye(5)
    matrix[np.triu_indices(5, k=1)] = r
    assert pair_correlations(matrix).tolist() == r
    summary = summarize(matrix)
    assert summary["shares"] == {"N": 0.3, "W": 0.2, "M": 0.2, "S": 0.3}
    assert summary["paper_share"] == 0.4  # -0.1, 0.199, 0 and 0.2
    assert summary["mean_magnitude"] == pytest.approx(0.4188)
