"""Correlations are NumPy's over all pixels at once; bins are counted by hand."""

import numpy as np
import pytest
import torch
from figures.correlation import (
    BIN_LEGEND,
    ChannelCorrelation,
    Summary,
    draw_correlations,
    pair_correlations,
)


def correlate(*feature_maps):
    correlation = ChannelCorrelation()
    for features in feature_maps:
        correlation.update(features)
    return correlation.matrix()


def numpy_correlate(*feature_maps):
    """The same from one table of all pixels, a row a channel."""
    images = [image.flatten(1).double() for f in feature_maps for image in f]
    return np.corrcoef(torch.cat(images, 1))


def draw_maps():
    """Mixtures of noise, whose means are far from 0 and differ between the maps."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(5, 5, generator=generator)
    noise = [torch.randn(2, 5, 4, 6, generator=generator),
             torch.randn(1, 5, 3, 7, generator=generator)]  # fmt: skip
    first, second = (torch.einsum("oc,bchw->bohw", mix, x) for x in noise)
    return first + 1000, second + 1002


def symmetric(size, *upper):
    """A correlation matrix (C, C) whose upper triangle is given, row by row."""
    matrix = np.eye(size)
    matrix[np.triu_indices(size, k=1)] = upper
    return matrix + matrix.T - np.eye(size)


def test_correlations_are_those_of_numpy_over_all_pixels():
    maps = draw_maps()
    np.testing.assert_allclose(correlate(*maps), numpy_correlate(*maps), atol=1e-12)


def test_image_by_image_is_as_all_at_once():
    maps = torch.randn(6, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(correlate(*maps.split(1)), correlate(maps), atol=1e-12)


def test_feature_maps_of_lower_precision_are_summed_in_float64():
    maps = [features.half() for features in draw_maps()]
    np.testing.assert_allclose(correlate(*maps), numpy_correlate(*maps), atol=1e-12)


def test_constant_channels_are_left_out_and_counted():
    maps = draw_maps()
    for features in maps:
        features[:, 1] = 0.1
        features[:, 3] = 0.0
    maps[1][0, 3, 2, 2] = 1.0  # in one pixel, so it varies
    matrix = correlate(*maps)
    assert np.isnan(matrix[1]).all()
    assert np.isnan(matrix[:, 1]).all()
    varying = [0, 2, 3, 4]
    np.testing.assert_allclose(
        matrix[np.ix_(varying, varying)],
        numpy_correlate(*(features[:, varying] for features in maps)),
        atol=1e-12,
    )
    summary = Summary.of(matrix)
    assert (summary.channels, summary.constant, summary.pairs) == (5, 1, 6)


def test_copies_correlate_fully_and_no_more():
    channel = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    matrix = correlate(torch.cat([channel, 3 * channel, -channel], 1))
    expected = [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    assert np.abs(matrix).max() <= 1


def test_bins_by_hand():
    #    N               W           M            S
    r = [-0.1, 0.199, 0, 0.2, -0.39, 0.4, -0.599, 0.6, -0.7, 1]
    matrix = symmetric(5, *r)
    assert pair_correlations(matrix).tolist() == r
    summary = Summary.of(matrix)
    assert (summary.channels, summary.constant, summary.pairs) == (5, 0, 10)
    assert summary.shares == {"N": 0.3, "W": 0.2, "M": 0.2, "S": 0.3}
    assert summary.paper_share == 0.4  # -0.1, 0.199, 0 and 0.2
    assert summary.mean_magnitude == pytest.approx(0.4188)


def test_the_legend_says_the_edges_and_whose_they_are():
    assert BIN_LEGEND.startswith("|r|: N < 0.2 <= W < 0.4 <= M < 0.6 <= S")
    assert "the edges are ours" in BIN_LEGEND


def test_the_figure_shows_each_pair_once_and_names_the_bins():
    first = symmetric(4, 0.01, -0.29, -0.31, 0.99, 0.99, 0.99)
    figure = draw_correlations([("a", first), ("b", symmetric(2, 0.51))])
    (axes,) = figure.axes
    drawn = []
    for steps in axes.patches[:2]:
        heights, edges, _ = steps.get_data()
        drawn.append({round(edges[i], 3): heights[i] for i in np.flatnonzero(heights)})
    sixth = 100 / 6
    assert drawn[0] == pytest.approx(
        {-0.325: sixth, -0.3: sixth, 0: sixth, 0.975: 3 * sixth}
    )
    assert drawn[1] == {0.5: 100}
    marks = [line.get_xdata()[0] for line in axes.lines]
    assert marks == [-0.6, -0.4, -0.2, 0.2, 0.4, 0.6]
    (top,) = axes.child_axes
    assert [text.get_text() for text in top.get_xticklabels()] == [*"SMWNWMS"]
    (legend,) = figure.legends
    assert legend.get_title().get_text() == BIN_LEGEND
    *names, shade = (text.get_text() for text in legend.get_texts())
    assert names == ["a", "b"]
    assert shade.startswith("-0.1 .. 0.2,")


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="at least one image"):
        correlate()


def test_no_pair_is_an_error():
    features = torch.zeros(1, 4, 2, 2)
    features[0, 3, 0, 0] = 1
    with pytest.raises(ValueError, match="3 of 4 channels are constant"):
        Summary.of(correlate(features))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_an_error(value):
    features = torch.rand(1, 3, 2, 2)
    features[0, 1, 1, 0] = value
    with pytest.raises(ValueError, match="not finite"):
        correlate(features)
