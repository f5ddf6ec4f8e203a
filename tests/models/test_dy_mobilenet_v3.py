"""DyMobileNetV3 against MobileNetV3, hand counts and the paper's counts."""

import pytest
import torch
from mmcv.cnn import ConvModule
from mmseg.models.backbones import MobileNetV3
from torch import nn

from mmseg_dynet.models import DyMobileNetV3

OUTPUT_STRIDE_8 = dict(
    small=dict(strides=(2, 2, 1, 1, 1), dilations=(1, 1, 2, 2, 4)),
    large=dict(strides=(1, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4)),
)
# Indices of the last layer of each stage in MMSegmentation's MobileNetV3, stem 0.
HOST_INDICES = dict(small=(1, 3, 6, 8, 11, 12), large=(1, 3, 6, 10, 12, 15, 16))

# Blocks as (kernel side, C, mid channels, O, hidden channels of the squeeze-excite
# layer or 0, side in, side out) at 224 x 224.
BLOCKS = dict(
    small=[
        (3, 16, 16, 16, 8, 112, 56),
        (3, 16, 72, 24, 0, 56, 28),
        (3, 24, 88, 24, 0, 28, 28),
        (5, 24, 96, 40, 24, 28, 14),
        (5, 40, 240, 40, 64, 14, 14),
        (5, 40, 240, 40, 64, 14, 14),
        (5, 40, 120, 48, 32, 14, 14),
        (5, 48, 144, 48, 40, 14, 14),
        (5, 48, 288, 96, 72, 14, 7),
        (5, 96, 576, 96, 144, 7, 7),
        (5, 96, 576, 96, 144, 7, 7),
    ],
    large=[
        (3, 16, 16, 16, 0, 112, 112),
        (3, 16, 64, 24, 0, 112, 56),
        (3, 24, 72, 24, 0, 56, 56),
        (5, 24, 72, 40, 24, 56, 28),
        (5, 40, 120, 40, 32, 28, 28),
        (5, 40, 120, 40, 32, 28, 28),
        (3, 40, 240, 80, 0, 28, 14),
        (3, 80, 200, 80, 0, 14, 14),
        (3, 80, 184, 80, 0, 14, 14),
        (3, 80, 184, 80, 0, 14, 14),
        (3, 80, 480, 112, 120, 14, 14),
        (3, 112, 672, 112, 168, 14, 14),
        (5, 112, 672, 160, 168, 14, 7),
        (5, 160, 960, 160, 240, 7, 7),
        (5, 160, 960, 160, 240, 7, 7),
    ],
)


def macs_by_hand(arch: str, num_kernels: int | None) -> tuple[int, int]:
    """Count convolutions, fusion and prediction; and the squeeze-excite layers."""
    macs = 112**2 * 27 * 16
    squeeze_macs = 0
    for k, inp, mid, out, hidden, side, out_side in BLOCKS[arch]:
        expand = mid != inp
        pointwise = inp * mid if expand else 0
        spatial = mid * k**2
        macs += side**2 * pointwise + out_side**2 * (spatial + mid * out)
        squeeze_macs += 2 * mid * hidden
        if num_kernels is not None:
            macs += num_kernels * (pointwise + spatial + mid * out)  # fusion
            macs += inp * ((mid if expand else 0) + mid + out) * num_kernels
    return macs + 7**2 * out * 6 * out, squeeze_macs


def pad_alike(static: MobileNetV3) -> None:
    """Put plain convolutions, padded alike on all sides, in place of TensorFlow's."""
    replaced = 0
    for module in static.modules():
        if isinstance(module, ConvModule) and type(module.conv) is not nn.Conv2d:
            old = module.conv
            (side, _), (dilation, _) = old.kernel_size, old.dilation
            module.conv = nn.Conv2d(
                old.in_channels, old.out_channels, side, old.stride,
                dilation * (side // 2), dilation, old.groups, bias=False,
            )  # fmt: skip
            module.conv.load_state_dict(old.state_dict())
            replaced += 1
    assert replaced == 5  # as of stride 2, before dilation


@pytest.mark.parametrize("same_padding", [True, False])
@pytest.mark.parametrize("arch", ["small", "large"])
def test_one_kernel_at_one_is_the_hosts(make_equal, arch, same_padding):
    torch.manual_seed(0)
    static = MobileNetV3(arch, out_indices=HOST_INDICES[arch])
    if not same_padding:
        pad_alike(static)
    indices = range(len(HOST_INDICES[arch]))
    dynamic = DyMobileNetV3(
        arch, num_kernels=1, same_padding=same_padding, out_indices=indices,
        **OUTPUT_STRIDE_8[arch],
    )  # fmt: skip
    make_equal(dynamic, static)
    static.double().eval()
    dynamic.double().eval()
    for size in ((32, 64), (33, 66)):  # TensorFlow's padding differs on even sides
        x = torch.randn(2, 3, *size, dtype=torch.double)
        torch.testing.assert_close(dynamic(x), tuple(static(x)))


def test_no_weight_depends_on_padding_and_stride():
    with torch.device("meta"):
        names = [
            list(DyMobileNetV3(num_kernels=None, **options).state_dict())
            for options in (
                {}, dict(same_padding=False), OUTPUT_STRIDE_8["small"],
                dict(same_padding=False, **OUTPUT_STRIDE_8["small"]),
            )
        ]  # fmt: skip
    assert all(other == names[0] for other in names)


@pytest.mark.parametrize("num_kernels", [6, None])
@pytest.mark.parametrize("arch", ["small", "large"])
def test_macs_are_the_hand_count(count_macs, arch, num_kernels):
    expected = sum(macs_by_hand(arch, num_kernels))
    assert count_macs(DyMobileNetV3, arch, num_kernels) == expected


@pytest.mark.parametrize(("arch", "figure"), [("small", 59), ("large", 228)])
def test_macs_without_squeeze_excite_are_the_papers(count_macs, arch, figure):
    _, squeeze_macs = macs_by_hand(arch, 6)
    assert round((count_macs(DyMobileNetV3, arch) - squeeze_macs) / 1e6) == figure


def test_widths_are_multiples_of_eight():
    with torch.device("meta"):
        network = DyMobileNetV3(widen_factor=0.75, out_indices=range(6))
        outs = network(torch.empty(1, 3, 64, 64))
    # 0.75 * (16, 24, 40, 48, 96), but 12 and 30 become 16 and 32; then 6 * 72
    assert [out.shape[1] for out in outs] == [16, 24, 32, 40, 72, 432]
