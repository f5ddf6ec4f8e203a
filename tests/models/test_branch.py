"""The chain of a block: dynamic against its layers run one by one, and its control."""

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from mmseg_dynet.models import DyConvModule, build_branch
from mmseg_dynet.ops import dynamic_conv2d_reference

LAYERS = (
    dict(in_channels=4, out_channels=6, kernel_size=1),
    nn.AvgPool2d(2),
    dict(
        in_channels=6, out_channels=6, kernel_size=3, padding=1, groups=2, act_cfg=None
    ),
)
SHARED = dict(norm_cfg=dict(type="BN"), act_cfg=dict(type="ReLU6"))


def test_dynamic_chain_is_its_layers_with_coefficients_of_the_branch_input():
    torch.manual_seed(0)
    branch = build_branch(LAYERS, 3, **SHARED).double().eval()
    first, pool, second, predictor = branch
    x = 10 * torch.randn(2, 4, 8, 6).double()  # beyond the 6 of ReLU6

    coeff1, coeff2 = predictor(x)
    out = dynamic_conv2d_reference(x, first.conv.weight, coeff1)
    out = pool(first.bn(out).clamp(0, 6))
    out = dynamic_conv2d_reference(out, second.conv.weight, coeff2, padding=1, groups=2)
    torch.testing.assert_close(branch(x), second.bn(out))


@pytest.mark.parametrize(
    "options",
    [
        dict(order=("norm", "act", "conv"), norm_cfg=dict(type="BN")),
        dict(padding_mode="reflect", norm_cfg=dict(type="BN")),
        dict(padding_mode="zero", order=("act", "conv", "norm"), act_cfg=None),
    ],
)
def test_conv_module_computes_what_mmcvs_does(options):
    """With one kernel per channel and coefficients of 1 the two are the same."""
    torch.manual_seed(0)
    arguments = dict(in_channels=4, out_channels=4, kernel_size=3, padding=1, **options)
    dynamic = DyConvModule(num_kernels=1, **arguments).eval()
    static = ConvModule(**arguments).eval()
    weights = {n: w.squeeze(1) for n, w in dynamic.state_dict().items()
               if n.endswith("conv.weight")}  # fmt: skip
    static.load_state_dict(dynamic.state_dict() | weights)
    x = torch.randn(2, 4, 6, 5)
    torch.testing.assert_close(dynamic(x, torch.ones(2, 4, 1)), static(x))
