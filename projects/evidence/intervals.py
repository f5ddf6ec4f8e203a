"""Intervals of differences between networks, over seeds and over photographs."""

import math
from collections.abc import Sequence
from statistics import mean, variance

import numpy as np
from scipy.stats import t, ttest_ind

Interval = tuple[float, float]  # its bounds


def paired(values: Sequence[float]) -> Interval:
    """The 95 % interval of the mean of paired differences; infinite for one value."""
    return pooled([values])


def pooled(groups: Sequence[Sequence[float]]) -> Interval:
    """That of the mean of the means of groups, which are taken to vary alike."""
    centre = mean(map(mean, groups))
    degrees = sum(len(group) - 1 for group in groups)
    if degrees == 0:
        return -math.inf, math.inf
    squares = sum((len(g) - 1) * variance(g) for g in groups if len(g) > 1)
    error = math.sqrt(squares / degrees * sum(1 / len(g) for g in groups)) / len(groups)
    half = t.ppf(0.975, degrees) * error
    return centre - half, centre + half


def unpaired(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """That of the difference of two means, by Welch's t-test."""
    return tuple(ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95))


def over_photographs(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """That of the difference in mIoU, had other collections been photographed.

    It holds 95 % of 2000 draws, with replacement, of as many collections and as many
    seeds, the same for both networks. Both arrays are (seeds, collections, 3, classes),
    areas as in evaluation.py; IoUs are averaged over seeds.
    """
    random = np.random.default_rng(0)
    seeds, collections = ours.shape[:2]
    draws = []
    for _ in range(2000):
        drawn = np.ix_(
            random.integers(seeds, size=seeds),
            random.integers(collections, size=collections),
        )
        draws.append(mean_iou(ours[drawn]) - mean_iou(theirs[drawn]))
    return tuple(np.percentile(draws, [2.5, 97.5]))


def mean_iou(areas: np.ndarray) -> float:
    """The mIoU in percent, mean over seeds, of areas as in over_photographs."""
    intersections, unions, labels = areas.sum(1).transpose(1, 0, 2)
    iou = (intersections / np.maximum(unions, 1)).mean(0)
    return 100 * iou[labels[0] > 0].mean()
