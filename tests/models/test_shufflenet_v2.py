"""ShuffleNetV2 is the published network, and its dilated form computes the same."""

import math

import pytest
import torch
from pytorchcv.models.shufflenetv2b import ShuffleNetV2b
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.models import ShuffleNetV2
from mmseg_dynet.models.blocks import shuffle

CHANNELS = {0.5: (48, 96, 192, 1024), 1.0: (116, 232, 464, 1024),
            1.5: (176, 352, 704, 1024), 2.0: (244, 488, 976, 2048)}  # fmt: skip
NUM_CLASSES = 1000


def third_party(widen_factor):
    """The network of pytorchcv, whose factory widens the last layer at 1.5 as well."""
    *widths, last_channels = CHANNELS[widen_factor]
    return ShuffleNetV2b(
        channels=[[width] * num for width, num in zip(widths, (4, 8, 4), strict=True)],
        init_block_channels=24,
        final_block_channels=last_channels,
        num_classes=NUM_CLASSES,
    )


def our_name(name):
    """Name in our backbone of one of the third party's weights."""
    for theirs, ours in {
        "init_block.conv": "stem.0",
        "final_block": "stages.3.0",
        "shortcut_dconv": "left.0",
        "shortcut_conv": "left.1",
        "conv1": "right.0",
        "dconv": "right.1",
        "conv2": "right.2",
        **{f"stage{i + 1}.": f"stages.{i}." for i in range(3)},
        **{f"unit{i + 1}.": f"{i}." for i in range(8)},
    }.items():
        name = name.replace(theirs, ours)
    return name


@pytest.mark.parametrize("widen_factor", CHANNELS)
@torch.no_grad()
def test_outputs_are_those_of_a_third_party(widen_factor, draw_norms):
    torch.manual_seed(0)
    reference = third_party(widen_factor).eval()
    draw_norms(reference)
    model = ShuffleNetV2(widen_factor, out_indices=(0, 1, 2, 3)).eval()
    model.load_state_dict(
        {our_name(k): v for k, v in reference.features.state_dict().items()}
    )

    x = torch.rand(2, 3, 65, 98)
    expected, out = [], x
    for layer in reference.features[:-1]:  # the last is the classifier's pooling
        out = layer(out)
        expected.append(out)
    for ours, theirs in zip(model(x), expected[1:], strict=True):
        atol = 1e-5 * theirs.max().item()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("widen_factor", "parameters", "published_macs"),
    [(0.5, 1_366_792, 41e6), (1.0, 2_279_760, 146e6),
     (1.5, 3_507_720, 299e6), (2.0, 7_403_600, 591e6)],
)  # fmt: skip
@torch.no_grad()
def test_size_is_the_published_one(widen_factor, parameters, published_macs):
    with torch.device("meta"):
        backbone = ShuffleNetV2(widen_factor, out_indices=(3,)).eval()
        classifier = nn.Linear(CHANNELS[widen_factor][-1], NUM_CLASSES)
        x = torch.rand(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        classifier(backbone(x)[0].mean((2, 3)))
    count = sum(p.numel() for m in (backbone, classifier) for p in m.parameters())
    assert count == parameters
    # The paper rounds up: 40.5 M is its 41.
    assert published_macs - 1e6 < counter.get_total_flops() / 2 <= published_macs


def test_an_old_torch_interleaves_the_same(monkeypatch):
    backbone, x = ShuffleNetV2(0.5).eval(), torch.randn(2, 3, 64, 64)
    (*_, expected) = backbone(x)
    monkeypatch.setattr(shuffle, "OPERATOR_DEVICES", ())
    assert torch.equal(backbone(x)[-1], expected)


@pytest.mark.parametrize(
    ("strides", "dilations", "steps"),
    [((2, 2, 1), (1, 1, 2), (1, 1, 2)), ((2, 1, 1), (1, 2, 4), (1, 2, 4))],
    ids=["output stride 16", "output stride 8"],
)
@torch.no_grad()
def test_dilated_form_is_the_strided_one_on_a_denser_grid(
    strides, dilations, steps, draw_norms
):
    torch.manual_seed(0)
    strided = ShuffleNetV2(0.5).eval()
    draw_norms(strided)
    dilated = ShuffleNetV2(0.5, strides=strides, dilations=dilations).eval()
    dilated.load_state_dict(strided.state_dict())
    x = torch.rand(1, 3, 97, 161)
    for sparse, dense, step in zip(strided(x), dilated(x), steps, strict=True):
        torch.testing.assert_close(dense[..., ::step, ::step], sparse)


def test_norm_and_activation_are_those_asked_for():
    model = ShuffleNetV2(
        0.5, norm_cfg=dict(type="GN", num_groups=2), act_cfg=dict(type="GELU")
    )
    kinds = {type(m) for m in model.modules() if not list(m.children())}
    assert kinds == {nn.Conv2d, nn.GroupNorm, nn.GELU, nn.MaxPool2d}


def test_init_weights_reaches_every_convolution():
    torch.manual_seed(0)
    model = ShuffleNetV2(0.5, out_indices=(3,))
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for conv in convs:
        nn.init.zeros_(conv.weight)
    model.init_weights()
    assert len(convs) == 1 + 3 * 2 + 16 * 3 + 1
    for conv in convs:
        fan_out = conv.weight[:, 0].numel()
        expected = math.sqrt(2 / fan_out)
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.25)
