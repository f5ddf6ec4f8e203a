"""DyResNet against the host's ResNet, hand counts, and its options."""

import pytest
import torch
from mmseg.models.backbones import ResNet, ResNetV1c
from torch import nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.models import DyResNet
from mmseg_dynet.models.paper_networks import Classifier

OUTPUT_STRIDES = {
    8: dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    16: dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    32: dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
}
NUM_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def counts_by_hand(depth: int, num_kernels: int = 6) -> dict[str, int]:
    """MACs for a 224x224 image, and parameters, from the paper's rule.

    Every convolution of a block is a row (side of its output, C, O, kernel side).
    """
    convolution = 112**2 * 64 * 3 * 49
    fusion = prediction = 0
    parameters = 64 * 3 * 49 + 2 * 64
    inp = 64
    for stage, num_blocks in enumerate(NUM_BLOCKS[depth]):
        side, width = 56 // 2**stage, 32 * 2**stage
        for block in range(num_blocks):
            in_side = 2 * side if stage > 0 and block == 0 else side
            if depth < 50:
                out = width
                convs = [(side, inp, out, 3), (side, out, out, 3)]
            else:
                out = 4 * width
                convs = [(in_side, inp, width, 1), (side, width, width, 3),
                         (side, width, out, 1)]  # fmt: skip
            bank = num_kernels * sum(c * o * k**2 for _, c, o, k in convs)
            hidden, coeffs = inp // 4, num_kernels * sum(o for _, _, o, _ in convs)
            convolution += sum(s**2 * c * o * k**2 for s, c, o, k in convs)
            fusion += bank
            prediction += inp * hidden + hidden * coeffs
            parameters += bank + (inp + 1) * hidden + (hidden + 1) * coeffs
            parameters += sum(2 * o for _, _, o, _ in convs)  # norms
            if inp != out:  # the static projection shortcut and its norm
                convolution += side**2 * inp * out
                parameters += inp * out + 2 * out
            inp = out
    return dict(
        backbone=convolution + fusion + prediction,
        convolution=convolution,
        squeeze_excite=0,
        fusion=fusion,
        prediction=prediction,
        head=0,
        parameters=parameters,
    )


@pytest.mark.parametrize("depth", NUM_BLOCKS)
def test_counts_are_those_by_hand(depth):
    with torch.device("meta"):
        backbone = DyResNet(depth)
    counts = count_complexity(backbone, (1, 3, 224, 224)).as_dict()
    del counts["macs"]
    assert counts == counts_by_hand(depth)


@pytest.mark.parametrize(
    ("depth", "deep_stem", "output_stride"),
    [(18, False, 32), (18, True, 8), (50, False, 8), (50, True, 16)],
)
def test_one_kernel_at_one_is_the_hosts_resnet_of_half_width(
    make_equal, depth, deep_stem, output_stride
):
    torch.manual_seed(0)
    options = OUTPUT_STRIDES[output_stride] | dict(contract_dilation=True)
    host = ResNetV1c if deep_stem else ResNet
    static = host(depth=depth, base_channels=32, **options)
    dynamic = DyResNet(depth, num_kernels=1, deep_stem=deep_stem, **options)
    make_equal(dynamic, static)
    static.eval()
    dynamic.eval()
    x = torch.randn(2, 3, 65, 96)
    with torch.no_grad():
        outs = dynamic(x)
        assert outs[-1].shape[2:] == (-(-65 // output_stride), 96 // output_stride)
        torch.testing.assert_close(outs, static(x), rtol=1e-5, atol=1e-5)


def test_coefficients_come_from_the_blocks_input():
    torch.manual_seed(0)
    block = DyResNet(18, base_channels=8).layer2[0].eval()
    x = torch.randn(2, 8, 8, 8)
    coeff1, coeff2 = block.predictor(x)
    out = block.bn1(block.conv1(x, coeff1)).relu()
    out = block.bn2(block.conv2(out, coeff2)) + block.downsample(x)
    torch.testing.assert_close(block(x), out.relu())


@pytest.mark.parametrize(("depth", "norm"), [(18, "bn2"), (50, "bn3")])
@pytest.mark.parametrize("zero", (True, False))
def test_zero_init_residual_makes_each_block_its_shortcut(depth, norm, zero):
    backbone = DyResNet(depth, base_channels=8, zero_init_residual=zero)
    backbone.init_weights()
    for name in backbone.res_layers:
        for block in getattr(backbone, name):
            assert (getattr(block, norm).weight == (0 if zero else 1)).all()


def test_an_explicit_init_cfg_disables_zero_init_as_in_the_host():
    init_cfg = [
        dict(type="Kaiming", layer="Conv2d"),
        dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"]),
    ]
    backbone = DyResNet(18, base_channels=8, init_cfg=init_cfg)
    backbone.init_weights()
    assert (backbone.layer1[0].bn2.weight == 1).all()


def test_init_weights_leaves_banks_initialised():
    torch.manual_seed(0)
    backbone = DyResNet(18, base_channels=8)
    backbone.init_weights()
    bank = backbone.layer4[1].conv2.weight.detach()
    kaiming_std = (2 / (64 * 9)) ** 0.5
    assert bank.std() == pytest.approx(kaiming_std * 2 / 6**0.5, rel=0.01)


@pytest.mark.filterwarnings("ignore:.*quantiz.*deprecated")
def test_torch_quantises_a_classifier_and_leaves_its_predictors():
    torch.manual_seed(0)
    backbone = DyResNet(18, base_channels=8, out_indices=(3,))
    classifier = Classifier(backbone, 64).eval()
    quantised = torch.ao.quantization.quantize_dynamic(classifier, {nn.Linear})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out, plain = quantised(x), classifier(x)
    assert not any(isinstance(m, nn.Linear) for m in quantised.modules())
    assert 0 < (out - plain).norm() < 0.02 * plain.norm()


@pytest.mark.parametrize("num_stages", (1, 3))
def test_fewer_stages(num_stages):
    backbone = DyResNet(
        18,
        num_stages=num_stages,
        strides=(1, 2, 2)[:num_stages],
        dilations=(1, 1, 1)[:num_stages],
        out_indices=(num_stages - 1,),
    )
    (out,) = backbone(torch.randn(2, 3, 32, 32))
    assert out.shape[1] == 32 * 2 ** (num_stages - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(depth=19), "depth=19 is not one of 18, 34, 50, 101"),
        (dict(num_stages=5), "num_stages=5 is not one of 1, 2, 3, 4"),
        (dict(num_kernels=None), r"control .* is ResNet\(depth=18, base_channels=32\)"),
        (dict(conv_cfg=dict(type="Conv2d")), "DyResNet does not take conv_cfg="),
        (dict(dcn=dict(type="DCN")), "DyResNet does not take dcn="),
        (dict(plugins=[dict()]), "DyResNet does not take plugins="),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        DyResNet(**(dict(depth=18) | options))
