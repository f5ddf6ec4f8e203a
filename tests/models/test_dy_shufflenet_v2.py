"""Dy-shuffle: the paper's counts, its split, and the static network inside of it."""

import pytest
import torch
from torch import nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.models import DyShuffleNetV2
from mmseg_dynet.models.blocks import ShuffleUnit
from mmseg_dynet.ops import CoefficientPredictor

WIDTHS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704),
          2.0: (244, 488, 976)}  # fmt: skip
LAST = {0.5: 1024, 1.0: 1024, 1.5: 1024, 2.0: 2048}
# Channels per group of the spatial convolution in stage 0: a right branch of 29 or 61
# channels has no groups of two.
FIRST_GROUP = {0.5: 2, 1.0: 1, 1.5: 2, 2.0: 1}


def counted_macs(*args):
    """MACs at 224x224 of convolution, fusion and prediction."""
    with torch.device("meta"):
        model = DyShuffleNetV2(*args, out_indices=(3,))
    counts = count_complexity(model, (1, 3, 224, 224))
    return counts.convolution, counts.fusion, counts.prediction


def hand_counted_macs(widen_factor):
    """The same, layer by layer."""
    convolution, weights, prediction = 112**2 * 24 * 3 * 9, 0, 0
    channels = 24
    for stage, (width, num_units, side) in enumerate(
        zip(WIDTHS[widen_factor], (4, 8, 4), (28, 14, 7), strict=True)
    ):
        half, rest = width // 2, width - channels
        convolution += side**2 * channels * (9 + channels)  # left of the first unit
        convolution += (2 * side) ** 2 * half * channels
        convolution += side**2 * half * (9 + rest)
        weights += half * (channels + 9 + rest)
        prediction += channels * (half + half + rest)

        right = width // 4
        group = 2 if stage else FIRST_GROUP[widen_factor]
        unit_weights = right * (right + 9 * group + right)
        convolution += (num_units - 1) * side**2 * unit_weights
        weights += (num_units - 1) * unit_weights
        prediction += (num_units - 1) * right * 3 * right
        channels = width
    convolution += 7**2 * LAST[widen_factor] * channels
    return convolution, 6 * weights, 6 * prediction


@pytest.mark.parametrize("widen_factor", WIDTHS)
def test_macs_are_those_counted_by_hand(widen_factor):
    assert counted_macs(widen_factor) == hand_counted_macs(widen_factor)


def test_control_has_the_convolutions_only():
    convolution, _, _ = hand_counted_macs(1.0)
    assert counted_macs(1.0, None) == (convolution, 0, 0)


def test_macs_are_the_papers():
    # The paper's unit is 2^20; its later version adds fusion and prediction.
    assert round(counted_macs(1.0)[0] / 2**20) == 88
    assert round(sum(counted_macs(1.0)) / 2**20) == 92
    assert round(counted_macs(1.5)[0] / 2**20) == 171


def test_unit_splits_three_to_one():
    unit = DyShuffleNetV2(0.5).stages[0][1]
    assert isinstance(unit, ShuffleUnit)
    unit.right = nn.Threshold(torch.inf, -1.0)  # -1 wherever it reaches
    x = torch.arange(48.0).view(1, 48, 1, 1)
    kept = torch.tensor([*range(36), *[-1] * 12])
    assert torch.equal(unit(x).flatten(), kept.view(2, 24).T.flatten().float())


@torch.no_grad()
def test_one_kernel_with_coefficient_one_is_the_control(make_equal):
    torch.manual_seed(0)
    control = DyShuffleNetV2(0.5, None, out_indices=(0, 1, 2, 3)).eval()
    model = DyShuffleNetV2(0.5, num_kernels=1, out_indices=(0, 1, 2, 3)).eval()
    predictors = [m for m in model.modules() if isinstance(m, CoefficientPredictor)]
    assert len(predictors) == 4 + 8 + 4
    make_equal(model, control)

    x = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(model(x), control(x))
