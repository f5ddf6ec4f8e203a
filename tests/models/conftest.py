"""Fixtures of the tests of backbones, and the list of all backbones."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.deploy.runtimes import onnxruntime_call
from mmseg_dynet.models import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
)
from mmseg_dynet.ops import CoefficientPredictor


@dataclass(frozen=True)
class Case:
    """A backbone, and what its documentation promises.

    Attributes:
        name: Of the test.
        build: Builds the backbone from further options.
        channels: Of every stage.
        strides: Output stride of every stage, in a network of output stride 32.
        options: What gives the network a smaller one, which bounds its stages' own.
        small: What makes it small, for tests that compute.
        dynamic: Whether it has predictors.
    """

    name: str
    build: Callable[..., nn.Module]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    options: dict[int, dict]
    small: dict
    dynamic: bool = True

    def build_all_stages(self, **options) -> nn.Module:
        """Build it with the outputs of all stages."""
        return self.build(out_indices=tuple(range(len(self.channels))), **options)

    def build_small(self, **options) -> nn.Module:
        """Build it narrow, with the outputs of all stages."""
        return self.build_all_stages(**self.small, **options)


def _resnet(name, channels, **fixed):
    return Case(
        name,
        lambda **options: DyResNet(**fixed, **options),
        channels,
        strides=(4, 8, 16, 32),
        options={
            8: dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
            16: dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
        },
        small=dict(base_channels=8, stem_channels=16),
    )


def _mobilenet_v2(name, channels, **fixed):
    return Case(
        name,
        lambda **options: DyMobileNetV2(**fixed, **options),
        channels,
        strides=(2, 4, 8, 16, 16, 32, 32, 32),
        options={
            8: dict(strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4)),
            16: dict(strides=(1, 2, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 1, 1, 2, 2)),
        },
        small=dict(widen_factor=0.25),
        dynamic=fixed.get("num_kernels", 6) is not None,
    )


def _mobilenet_v3(arch, channels, strides, options):
    return Case(
        f"dy-mobilenet-v3-{arch}",
        lambda **kwargs: DyMobileNetV3(arch, **kwargs),
        channels,
        strides,
        options,
        small=dict(widen_factor=0.25),
    )


def _shufflenet_v2(name, network, **fixed):
    return Case(
        name,
        lambda **options: network(**fixed, **options),
        channels=(116, 232, 464, 1024),
        strides=(8, 16, 32, 32),
        options={
            8: dict(strides=(2, 1, 1), dilations=(1, 2, 4)),
            16: dict(strides=(2, 2, 1), dilations=(1, 1, 2)),
        },
        small=dict(widen_factor=0.5),
        dynamic=network is DyShuffleNetV2 and fixed.get("num_kernels", 6) is not None,
    )


DY_MOBILE_CHANNELS = (18, 24, 36, 66, 96, 162, 324, 1280)
CASES = [
    _resnet("dy-resnet18", (32, 64, 128, 256), depth=18),
    _resnet("dy-resnet18-v1c", (32, 64, 128, 256), depth=18, deep_stem=True),
    _resnet("dy-resnet50", (128, 256, 512, 1024), depth=50),
    _mobilenet_v2("dy-mobile", DY_MOBILE_CHANNELS),
    _mobilenet_v2("fix-mobile", DY_MOBILE_CHANNELS, num_kernels=None),
    _mobilenet_v2(
        "dy-mobilenet-v2", (16, 24, 32, 64, 96, 160, 320, 1280), same_width=True
    ),
    _mobilenet_v3(
        "small",
        (16, 24, 40, 48, 96, 576),
        (4, 8, 16, 16, 32, 32),
        {
            8: dict(strides=(2, 2, 1, 1, 1), dilations=(1, 1, 2, 2, 4)),
            16: dict(strides=(2, 2, 2, 1, 1), dilations=(1, 1, 1, 1, 2)),
        },
    ),
    _mobilenet_v3(
        "large",
        (16, 24, 40, 80, 112, 160, 960),
        (2, 4, 8, 16, 16, 32, 32),
        {
            8: dict(strides=(1, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4)),
            16: dict(strides=(1, 2, 2, 2, 1, 1), dilations=(1, 1, 1, 1, 1, 2)),
        },
    ),
    _shufflenet_v2("shufflenet-v2", ShuffleNetV2),
    _shufflenet_v2("dy-shuffle", DyShuffleNetV2),
    _shufflenet_v2("fix-shuffle", DyShuffleNetV2, num_kernels=None),
]

COEFFICIENTS = {
    "odconv": dict(
        granularity="product", normaliser="softmax", static_kernel=True, centred=True
    ),
    "kernel-l1": dict(granularity="kernel", normaliser="l1"),
}
# Backbones that `make test` compiles and exports; `make test-all` does so with all.
COMPILED = ("dy-resnet18", "dy-mobilenet-v3-small")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a ``case``, or a ``graph_case``, on every backbone.

    One that asks for ``coefficients`` runs with options far from the default ones.
    """
    if "coefficients" in metafunc.fixturenames:
        metafunc.parametrize("coefficients", COEFFICIENTS.values(), ids=COEFFICIENTS)
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES, ids=lambda case: case.name)
    if "graph_case" in metafunc.fixturenames:
        cases = [
            pytest.param(case, marks=() if case.name in COMPILED else pytest.mark.slow)
            for case in CASES
        ]
        metafunc.parametrize("graph_case", cases, ids=[case.name for case in CASES])


@pytest.fixture
def make_equal(draw_norms) -> Callable[[nn.Module, nn.Module], None]:
    """Give a one-kernel dynamic network the static one's weights; coefficients at 1.

    Norms are randomised first, so that none is the identity.
    """

    def make(dynamic: nn.Module, static: nn.Module) -> None:
        draw_norms(static)
        for module in dynamic.modules():
            if isinstance(module, CoefficientPredictor):
                nn.init.zeros_(module.logits.weight)
                nn.init.constant_(module.logits.bias, 100)  # its sigmoid is 1
        ours = {k: v for k, v in dynamic.state_dict().items() if ".predictor." not in k}
        theirs = static.state_dict()
        for ours_name, theirs_name in zip(ours, theirs, strict=True):
            # conv.weight, bn.running_mean, ...: the networks name their stages alone
            assert ours_name.split(".")[-2:] == theirs_name.split(".")[-2:]
            ours[ours_name].copy_(theirs[theirs_name].view_as(ours[ours_name]))

    return make


@pytest.fixture
def check_exports(tmp_path) -> Callable[[nn.Module, Tensor], None]:
    """Compare a network with its exported program, and ONNX Runtime's run of that."""
    pytest.importorskip("onnxruntime")

    def check(model: nn.Module, x: Tensor) -> None:
        program, path = torch.export.export(model, (x,)), tmp_path / "model.onnx"
        with warnings.catch_warnings():  # torch copies what it deprecates
            warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated")
            torch.onnx.export(program, dynamo=True, verbose=False).save(path)
        with torch.no_grad():
            expected = model(x)
            torch.testing.assert_close(program.module()(x), expected)
        outs = [expected] if isinstance(expected, Tensor) else expected
        for got, out in zip(onnxruntime_call(path, x, 1)(), outs, strict=True):
            assert (torch.from_numpy(got) - out).abs().max() < 1e-4 * out.abs().max()

    return check


@pytest.fixture
def count_macs() -> Callable[..., int]:
    """Build a network without memory for it, and count its MACs for a 224x224 image."""

    def count(network: type[nn.Module], *args, **kwargs) -> int:
        with torch.device("meta"):
            model = network(*args, **kwargs)
        return count_complexity(model, (1, 3, 224, 224)).macs

    return count
