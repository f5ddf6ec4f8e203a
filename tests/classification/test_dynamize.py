"""Networks that torchvision itself builds, made dynamic in place."""

import copy

import pytest
import torch
import torchvision.models

from mmseg_dynet.analysis.coefficients import CoefficientRecorder
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.deploy import KernelReuse, fold_bn
from mmseg_dynet.models.dynamize import dynamize, to_static

# Of how many convolutions how many become dynamic: those of its blocks, except
# projection shortcuts and squeeze-excite.
NETWORKS = dict(
    resnet18=(16, 20), mobilenet_v2=(50, 52), regnet_y_400mf=(48, 85)
)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks(name, draw_norms):
    torch.manual_seed(0)
    static = getattr(torchvision.models, name)(num_classes=10)
    draw_norms(static)
    static.eval()
    dynamic = dynamize(copy.deepcopy(static), num_kernels=2, from_static=True)
    report = dynamic.dynamization
    convs = sum(map(len, report.blocks.values()))
    assert (convs, convs + len(report.static)) == NETWORKS[name]
    shape = (2, 3, 96, 128)
    counts = [count_complexity(model, shape).macs for model in (static, dynamic)]
    before, after = dynamize(
        copy.deepcopy(static), num_kernels=2, input_shape=shape
    ).dynamization.macs
    assert [before, after] == counts

    x = torch.randn(shape)
    with torch.no_grad():
        expected = static(x)
        assert expected.std() > 0.01  # else all would be close
        options = dict(rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        with CoefficientRecorder(dynamic) as recorder:
            torch.testing.assert_close(dynamic(x), expected, **options)
        torch.testing.assert_close(fold_bn(dynamic)(x), expected, **options)
        again = to_static(dynamic, recorder.means())
        assert [*again.state_dict()] == [*static.state_dict()]
        torch.testing.assert_close(again(x), expected, **options)
        with KernelReuse(dynamic, every=2):
            for _ in range(2):
                torch.testing.assert_close(dynamic(x), expected, **options)
    dynamic.train()(x).square().mean().backward()
    assert all(p.grad is not None for p in dynamic.parameters())
