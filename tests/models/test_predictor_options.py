"""Options of the predictor, in every network, under every way to run it."""

import copy
from collections.abc import Callable

import pytest
import torch
from mmseg.models.backbones import DDRNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.deploy import KernelReuse, fold_bn, optimize_for_inference
from mmseg_dynet.models import DyMobileNetV2, DyMobileNetV3, DyResNet, DyShuffleNetV2
from mmseg_dynet.models.dynamize import dynamize
from mmseg_dynet.ops import CoefficientOptions, CoefficientPredictor, DyConv2d

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "dy-resnet": lambda **o: DyResNet(18, base_channels=8, stem_channels=16, **o),
    "dy-mobile": lambda **o: DyMobileNetV2(widen_factor=0.25, **o),
    "dy-mobilenet-v3": lambda **o: DyMobileNetV3(widen_factor=0.25, **o),
    "dy-shuffle": lambda **o: DyShuffleNetV2(0.5, **o),
    "dynamized": lambda **o: dynamize(DDRNet(channels=8, ppm_channels=8), **o),
}


def trained(name: str, coefficients: dict) -> nn.Module:
    """A network in eval mode whose kernels and statistics have left their start."""
    torch.manual_seed(0)
    model = NETWORKS[name](num_kernels=3, coefficients=coefficients)
    for module in model.modules():
        if isinstance(module, DyConv2d | CoefficientPredictor):
            assert module.options == CoefficientOptions(**coefficients)
        if isinstance(module, DyConv2d):
            noise = torch.randn_like(module.weight)
            module.weight.data += 0.1 * module.weight.detach().std() * noise
        if isinstance(module, _BatchNorm):
            module.momentum = 1  # statistics of its own activations
    outs = outputs(model, torch.randn(2, 3, 128, 128))
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    return model


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    outs = model(x)
    return [outs] if isinstance(outs, Tensor) else list(outs)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_that_is_exact_stays_exact(name, coefficients):
    model = trained(name, coefficients).double()
    x = torch.randn(2, 3, 128, 128).double()
    with torch.no_grad():
        expected = outputs(model, x)
        alone = outputs(model, x[1:])
        torch.testing.assert_close([out[1:] for out in expected], alone)
        torch.testing.assert_close(outputs(fold_bn(model), x), expected)
        torch.testing.assert_close(outputs(copy.deepcopy(model), x), expected)
        optimized = optimize_for_inference(model)
        last = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(outputs(optimized, last), expected)
        with KernelReuse(model, every=2):
            first = outputs(model, x[:1])
            second = outputs(model, x[1:])
        torch.testing.assert_close(first, [out[:1] for out in expected])
        assert any(
            (s - a).abs().max() > 1e-6 for s, a in zip(second, alone, strict=True)
        )


@pytest.mark.recent_torch
def test_predictors_are_exported(coefficients, check_exports):
    torch.manual_seed(0)
    options = dict(num_kernels=3, coefficients=coefficients)
    layers = DyConv2d(3, 8, 3, **options), DyConv2d(8, 8, 1, **options)
    check_exports(nn.Sequential(*layers).eval(), torch.randn(1, 3, 32, 32))


@pytest.mark.slow
@pytest.mark.recent_torch
@pytest.mark.parametrize("name", ["dy-resnet", "dynamized"])
def test_exports_to_a_program_and_to_onnx(name, coefficients, check_exports):
    check_exports(trained(name, coefficients), torch.randn(1, 3, 128, 128))


def test_kernels_beside_a_static_one_part_in_training():
    """They start equal, at zero, and predictors give them different gradients."""
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 3, num_kernels=3, coefficients=dict(static_kernel=True))
    conv.predictor.predict_start()
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        conv(torch.randn(4, 4, 8, 8)).square().mean().backward()
        optimizer.step()
    _, second, third = conv.weight.detach().unbind(1)
    assert (second - third).norm() > 0.05 * second.norm()
