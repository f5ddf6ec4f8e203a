"""Options of the predictor, in every network, under every way to run it."""

import copy
from collections.abc import Callable

import pytest
import torch
from mmseg.models.backbones import DDRNet, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.analysis.coefficients import CoefficientRecorder
from mmseg_dynet.deploy import KernelReuse, fold_bn, optimize_for_inference
from mmseg_dynet.models import DyMobileNetV2, DyMobileNetV3, DyResNet, DyShuffleNetV2
from mmseg_dynet.models.dynamize import dynamize, to_static
from mmseg_dynet.models.from_static import to_dynamic
from mmseg_dynet.ops import CoefficientOptions, CoefficientPredictor, DyConv2d

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "dy-resnet": lambda **o: DyResNet(18, base_channels=8, stem_channels=16, **o),
    "dy-mobile": lambda **o: DyMobileNetV2(widen_factor=0.25, **o),
    "dy-mobilenet-v3": lambda **o: DyMobileNetV3(widen_factor=0.25, **o),
    "dy-shuffle": lambda **o: DyShuffleNetV2(0.5, **o),
    "dynamized": lambda **o: dynamize(DDRNet(channels=8, ppm_channels=8), **o),
}
OPTIONS = {
    "odconv": dict(
        granularity="product", normaliser="softmax", static_kernel=True, centred=True
    ),
    "kernel-l1": dict(granularity="kernel", normaliser="l1"),
}


@pytest.fixture(params=OPTIONS)
def options(request: pytest.FixtureRequest) -> dict:
    torch.manual_seed(0)
    return OPTIONS[request.param]


def trained(name: str, options: dict) -> nn.Module:
    """A network in eval mode whose kernels and statistics have left their start."""
    model = NETWORKS[name](num_kernels=3, coefficients=options)
    for module in model.modules():
        if isinstance(module, DyConv2d | CoefficientPredictor):
            assert module.options == CoefficientOptions(**options)
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
def test_all_that_is_exact_stays_exact(name, options):
    model = trained(name, options).double()
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
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "name", ["dy-resnet", pytest.param("dynamized", marks=pytest.mark.slow)]
)
def test_exports_to_a_program_and_to_onnx(name, options, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = trained(name, options)
    x = torch.randn(1, 3, 128, 128)
    program = torch.export.export(model, (x,))
    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (name,) = (i.name for i in session.get_inputs())
    with torch.no_grad():
        expected = outputs(model, x)
    torch.testing.assert_close(outputs(program.module(), x), expected)
    for got, out in zip(session.run(None, {name: x.numpy()}), expected, strict=True):
        assert (torch.from_numpy(got) - out).abs().max() < 1e-4 * out.abs().max()


def test_a_dynamized_network_starts_out_equal_and_becomes_static_again(
    options, draw_norms
):
    static = DDRNet(channels=8, ppm_channels=8)
    draw_norms(static)
    static.eval()
    weights, x = static.state_dict(), torch.randn(2, 3, 128, 128)
    filled = dynamize(copy.deepcopy(static), from_static=True, coefficients=options)
    loaded = NETWORKS["dynamized"](from_static=True, coefficients=options)
    own = {n: w for n, w in loaded.state_dict().items() if n not in weights}
    loaded.load_state_dict(weights | own)
    loaded.eval()
    with CoefficientRecorder(filled) as recorder, torch.no_grad():
        expected = outputs(static, x)
        for model in (filled, loaded):
            (got,) = outputs(model, x)
            assert (got - expected[0]).abs().max() < 1e-4 * expected[0].abs().max()
    (got,) = outputs(to_static(filled, recorder.means()), x)
    assert (got - expected[0]).abs().max() < 1e-4 * expected[0].abs().max()


def test_converted_weights_start_out_equal(options, draw_norms):
    static = ResNet(18, base_channels=8)
    draw_norms(static)
    static.eval()
    conversion = to_dynamic(static.state_dict(), 3, coefficients=options)
    config = dict(conversion.backbone)
    assert (config.pop("type"), config["coefficients"]) == ("DyResNet", options)
    dynamic = DyResNet(**config)
    nn.ModuleDict(dict(backbone=dynamic)).load_state_dict(conversion.state_dict)
    dynamic.eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(dynamic(x), static(x), rtol=1e-4, atol=1e-4)


def test_kernels_beside_a_static_one_part_in_training():
    """They start equal, at zero, and predictors give them different gradients."""
    torch.manual_seed(0)
    conv = DyConv2d(4, 6, 3, num_kernels=3, coefficients=dict(static_kernel=True))
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        conv(torch.randn(4, 4, 8, 8)).square().mean().backward()
        optimizer.step()
    _, second, third = conv.weight.detach().unbind(1)
    assert (second - third).norm() > 0.05 * second.norm()
