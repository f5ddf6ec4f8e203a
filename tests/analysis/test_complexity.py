"""MACs against hand formulas and a third-party counter."""

import torch
from fvcore.nn import FlopCountAnalysis
from mmseg.models.utils import SELayer
from torch import nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.models import DyResNet
from mmseg_dynet.ops import DyConv2d


class TwoPartNetwork(nn.Module):
    """Dynamic layers in both; the head is run by ``forward``, as the host does."""

    def __init__(self):
        super().__init__()
        self.backbone = DyConv2d(3, 8, 3, stride=2, padding=1, num_kernels=2)
        self.decode_head = nn.Sequential(
            nn.Conv2d(8, 4, 1), DyConv2d(4, 5, 1, num_kernels=6)
        )

    def forward(self, x):
        return self.decode_head.forward(self.backbone(x))


def test_places_and_purposes_equal_hand_formulas():
    counts = count_complexity(TwoPartNetwork(), (1, 3, 16, 24))
    convolution, fusion, prediction = 8 * 12 * 8 * 3 * 9, 8 * 2 * 3 * 9, 3 * 8 * 2
    head_fusion, head_prediction = 5 * 6 * 4, 4 * 5 * 6
    head = 8 * 12 * (8 * 4 + 4 * 5) + head_fusion + head_prediction
    assert counts.convolution == convolution
    assert counts.fusion == fusion + head_fusion
    assert counts.prediction == prediction + head_prediction
    assert counts.backbone == convolution + fusion + prediction
    assert counts.head == head
    assert counts.macs == counts.backbone + head
    assert counts.as_dict()["macs"] == counts.macs
    banks = 8 * 2 * 3 * 9 + 8 + 5 * 6 * 4 + 5
    predictors = (3 + 1) * 16 + (4 + 1) * 30
    assert counts.parameters == banks + predictors + 8 * 4 + 4


def test_a_batch_counts_whole():
    one = count_complexity(TwoPartNetwork(), (1, 3, 16, 24))
    three = count_complexity(TwoPartNetwork().half(), (3, 3, 16, 24))
    assert three.macs == 3 * one.macs
    assert three.parameters == one.parameters


def test_squeeze_excite_is_a_purpose_of_the_body():
    acts = (dict(type="ReLU"), dict(type=nn.Hardsigmoid))
    dynamic = dict(type=DyConv2d, num_kernels=2)
    network = nn.Sequential()
    network.backbone = nn.Sequential(
        nn.Conv2d(3, 32, 1),
        SELayer(32, ratio=4, act_cfg=acts),
        SELayer(32, ratio=2, act_cfg=acts, conv_cfg=dynamic),
    )
    network.head = SELayer(32, ratio=4, act_cfg=acts)
    counts = count_complexity(network, (1, 3, 5, 7))
    assert counts.convolution == 5 * 7 * 3 * 32
    assert counts.squeeze_excite == 2 * 32 * 8 + 2 * 32 * 16
    assert counts.fusion == 2 * (2 * 32 * 16)
    assert counts.prediction == 2 * (32 * 16 + 16 * 32)
    assert counts.head == 2 * 32 * 8
    assert counts.macs == counts.head + sum(
        (counts.convolution, counts.squeeze_excite, counts.fusion, counts.prediction)
    )


def test_the_model_is_left_as_it_was():
    model = TwoPartNetwork().train()
    count_complexity(model, (1, 3, 16, 24))
    assert model.training
    assert all(p.device.type == "cpu" for p in model.parameters())
    assert not model.backbone._forward_hooks


def test_agrees_with_fvcore():
    model = DyResNet(18).eval()
    counts = count_complexity(model, (1, 3, 64, 96))
    fvcore = FlopCountAnalysis(model, torch.rand(1, 3, 64, 96))
    fvcore.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = fvcore.by_operator()
    assert counts.convolution == by_operator["conv"]
    assert counts.fusion == by_operator["bmm"]
    assert counts.prediction == by_operator["linear"]
