"""DyMobileNetV2 against MobileNetV2, Fix-mobile, hand counts and the paper's counts."""

import pytest
import torch
from mmseg.models.backbones import MobileNetV2

from mmseg_dynet.models import DyMobileNetV2

OUTPUT_STRIDES = {
    8: dict(strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4)),
    16: dict(strides=(1, 2, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 1, 1, 2, 2)),
    32: {},
}

# The sides of the outputs at 224 x 224, and the blocks, of stages 0 .. 6.
SIDES = (112, 56, 28, 14, 14, 7, 7)
BLOCKS = (1, 2, 3, 4, 3, 3, 1)


def macs_by_hand(blocks, num_kernels: int | None) -> int:
    """Count from rows (side in, side out, C, mid channels, O, group width, expand)."""
    macs = 112**2 * 27 * 32
    for side, out_side, inp, mid, out, group_width, expand in blocks:
        pointwise = inp * mid if expand else 0
        spatial = mid * group_width * 9
        macs += side**2 * pointwise + out_side**2 * (spatial + mid * out)
        if num_kernels is not None:
            channels = (mid if expand else 0) + mid + out
            macs += num_kernels * (pointwise + spatial + mid * out)  # fusion
            macs += inp * channels * num_kernels  # prediction
    return macs + 7**2 * out * 1280


def dy_mobile_blocks():
    inp, side = 32, 112
    widths = (18, 24, 36, 66, 96, 162, 324)
    for out, num_blocks, out_side in zip(widths, BLOCKS, SIDES, strict=True):
        for _ in range(num_blocks):
            yield side, out_side, inp, out, out, 6, True
            inp, side = out, out_side


def same_width_blocks():
    inp, side = 32, 112
    widths = (16, 24, 32, 64, 96, 160, 320)
    for stage, (out, num_blocks) in enumerate(zip(widths, BLOCKS, strict=True)):
        for _ in range(num_blocks):
            mid = inp if stage == 0 else 6 * inp
            yield side, SIDES[stage], inp, mid, out, 1, stage > 0
            inp, side = out, SIDES[stage]


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_same_width_with_one_kernel_at_one_is_the_hosts(make_equal, output_stride):
    torch.manual_seed(0)
    options = OUTPUT_STRIDES[output_stride]
    static = MobileNetV2(widen_factor=0.25, **options)
    dynamic = DyMobileNetV2(True, num_kernels=1, widen_factor=0.25, **options)
    make_equal(dynamic, static)
    x = torch.randn(2, 3, 33, 66, dtype=torch.double)
    static.double().eval()
    outs = dynamic.double().eval()(x)
    assert outs[-1].shape[2] == -(-33 // output_stride)  # rounded up
    torch.testing.assert_close(outs, static(x))


def test_dy_mobile_with_one_kernel_at_one_is_fix_mobile(make_equal):
    torch.manual_seed(0)
    fix = DyMobileNetV2(num_kernels=None, widen_factor=0.25)
    dynamic = DyMobileNetV2(num_kernels=1, widen_factor=0.25)
    make_equal(dynamic, fix)
    x = torch.randn(2, 3, 33, 66, dtype=torch.double)
    torch.testing.assert_close(dynamic.double().eval()(x), fix.double().eval()(x))


@pytest.mark.parametrize("num_kernels", [6, None])
@pytest.mark.parametrize(
    ("same_width", "blocks"), [(False, dy_mobile_blocks), (True, same_width_blocks)]
)
def test_macs_are_the_hand_count(count_macs, same_width, blocks, num_kernels):
    macs = count_macs(DyMobileNetV2, same_width, num_kernels, out_indices=(7,))
    assert macs == macs_by_hand(blocks(), num_kernels)


def test_macs_are_the_papers(count_macs):
    convolutions = count_macs(DyMobileNetV2, num_kernels=None, out_indices=(7,))
    everything = count_macs(DyMobileNetV2, out_indices=(7,))
    assert (round(convolutions / 1e6), round(everything / 1e6)) == (129, 135)


def test_dy_mobile_rounds_widths_up_to_groups_of_six():
    widths = [12, 18, 24, 48, 72, 120, 240]  # 0.75 * (16, 24, 32, ...), up to 6s
    with torch.device("meta"):
        network = DyMobileNetV2(widen_factor=0.75, out_indices=range(7))
        outs = network(torch.empty(1, 3, 64, 64))
    assert [out.shape[1] for out in outs] == widths
    for stage, width in zip(network.stages, widths, strict=True):
        for block in stage:
            pointwise, spatial, projection, _ = block.branch
            assert spatial.groups == width // 6
            for layer in (pointwise, spatial, projection):
                assert layer.out_channels == width


@pytest.mark.parametrize(("widen_factor", "width"), [(0.5, 1280), (1.4, 1792)])
def test_last_convolution_widens_only(widen_factor, width):
    with torch.device("meta"):
        network = DyMobileNetV2(widen_factor=widen_factor, out_indices=(7,))
        (out,) = network(torch.empty(1, 3, 64, 64))
    assert out.shape == (1, width, 2, 2)
