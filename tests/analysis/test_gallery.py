"""Colours of a painted label map, and the grid of pictures."""

import numpy as np

from mmseg_dynet.analysis.gallery import colorize, draw_gallery

PALETTE = [(255, 0, 0), (0, 255, 0)]


def test_labels_get_their_colour_and_unknown_ones_black():
    labels = np.array([[0, 1], [255, -1]])
    assert colorize(labels, PALETTE).tolist() == [
        [[255, 0, 0], [0, 255, 0]],
        [[0, 0, 0], [0, 0, 0]],
    ]


def test_gallery_has_a_column_a_title_and_a_row_a_picture():
    picture = np.zeros((4, 8, 3), dtype=np.uint8)
    figure = draw_gallery(
        {"image": [picture] * 3, "truth": [picture] * 3}, ("road", "car"), PALETTE
    )
    assert len(figure.axes) == 6
    assert [ax.get_title() for ax in figure.axes[:2]] == ["image", "truth"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["road", "car"]
