"""Samples are spread over a data set."""

import pytest

from mmseg_dynet.apis import spread


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
