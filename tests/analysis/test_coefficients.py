"""Summaries are what NumPy computes from all coefficients, kept and named by hand."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmseg_dynet.analysis.coefficients import (
    CoefficientRecorder,
    CoefficientSummary,
    average,
)
from mmseg_dynet.deploy.kernel_reuse import KernelReuse
from mmseg_dynet.models import DyMobileNetV3, DyResNet, DyShuffleNetV2
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

pytestmark = pytest.mark.usefixtures("at_inference")

BACKBONES = {
    "dy-resnet18": lambda: DyResNet(18, base_channels=8),
    "dy-mobilenet-v3": lambda: DyMobileNetV3(widen_factor=0.25),
    "dy-shuffle": lambda: DyShuffleNetV2(0.5),
}


def coefficients(model: nn.Module, batches: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """All coefficients (N, O, K) of each layer by its name.

    The n-th output of a predictor is that of the n-th dynamic layer of its owner.
    """
    kept = defaultdict(list)
    for path, predictor in list(model.named_modules()):
        if isinstance(predictor, CoefficientPredictor):
            owner = path.rpartition(".")[0]
            names = [
                f"{owner}.{name}".rstrip(".")
                for name, module in model.get_submodule(owner).named_modules()
                if isinstance(module, DyConv2d)
            ]

            def keep(_, __, coeffs, names=names):
                for name, coeff in zip(names, coeffs, strict=True):
                    kept[name].append(coeff.double().numpy())

            predictor.register_forward_hook(keep)
    for batch in batches:
        model(batch)
    return {name: np.concatenate(parts) for name, parts in kept.items()}


@pytest.mark.parametrize("name", BACKBONES)
def test_summaries_are_those_of_all_coefficients(name, vary):
    model = vary(BACKBONES[name]().eval())
    batches = [(1 + i) * torch.rand(n, 3, 64, 64) for i, n in enumerate((3, 1, 3))]
    with CoefficientRecorder(model) as recorder:
        for batch in batches:
            model(batch)
    layers = recorder.summarize()
    expected = coefficients(model, batches)
    dynamic = [n for n, m in model.named_modules() if isinstance(m, DyConv2d)]
    assert list(layers) == dynamic
    assert sorted(expected) == sorted(dynamic)
    for layer, summary in layers.items():
        all_ = expected[layer]  # (N, O, K)
        assert (summary.num_images, summary.out_channels, summary.num_kernels) == (
            all_.shape
        )
        between = all_.std(0).mean()
        assert summary.mean == pytest.approx(all_.mean())
        assert recorder.means()[layer].numpy() == pytest.approx(all_.mean(0))
        assert summary.total_std == pytest.approx(all_.std())
        assert summary.between_image_std == pytest.approx(between)
        assert summary.between_image_share == pytest.approx(between / all_.std())
        assert summary.dead == (all_ < 0.05).all(0).mean()
        assert summary.saturated == (all_ > 0.95).all(0).mean()
    assert sum(summary.dead for summary in layers.values()) > 0
    assert sum(summary.saturated for summary in layers.values()) > 0


def test_a_constant_predictor_has_a_dead_and_a_saturated_kernel_by_hand():
    layer = DyConv2d(1, 2, 1, num_kernels=2)
    nn.init.zeros_(layer.predictor.logits.weight)
    # sigmoid(-3) = 0.0474, sigmoid(3) = 0.9526, sigmoid(+-2.9) = 0.0522 and 0.9478
    layer.predictor.logits.bias.copy_(torch.tensor([-3, 3, -2.9, 2.9]))
    with CoefficientRecorder(layer) as recorder:
        for n in (3, 2):
            layer(torch.rand(n, 1, 4, 4))
    (summary,) = recorder.summarize().values()
    assert summary.num_images == 5
    assert (summary.dead, summary.saturated) == (0.25, 0.25)
    assert (summary.between_image_std, summary.between_image_share) == (0, 0)
    assert summary.mean == pytest.approx(0.5)
    assert summary.total_std == pytest.approx(0.4502, abs=1e-4)


def test_all_that_varies_is_the_image_by_hand():
    """One coefficient, 0.02 on a black image and 0.98 on a white one: never dead."""
    layer = DyConv2d(1, 1, 1, num_kernels=1)
    logit = torch.tensor(0.98).logit()
    layer.predictor.logits.weight.fill_(2 * logit)
    layer.predictor.logits.bias.fill_(-logit)
    with CoefficientRecorder(layer) as recorder:
        layer(torch.zeros(1, 1, 4, 4))
        layer(torch.ones(1, 1, 4, 4))
    (summary,) = recorder.summarize().values()
    assert summary.mean == pytest.approx(0.5)
    assert summary.between_image_std == pytest.approx(0.48)
    assert summary.between_image_share == pytest.approx(1)
    assert (summary.dead, summary.saturated) == (0, 0)


def test_signs_and_a_static_kernel_by_hand():
    """Logits (-3, 1) and (0, 4) become -3/4, 1/4 and 0, 1, up to l1's 0.001."""
    options = dict(normaliser="l1", static_kernel=True)
    layer = DyConv2d(1, 2, 1, num_kernels=3, coefficients=options)
    nn.init.zeros_(layer.predictor.logits.weight)
    layer.predictor.logits.bias.copy_(torch.tensor([-3, 1, 0, 4]))
    with CoefficientRecorder(layer) as recorder:
        layer(torch.rand(2, 1, 4, 4))
    (summary,) = recorder.summarize().values()
    assert (summary.out_channels, summary.num_kernels) == (2, 2)
    assert (summary.dead, summary.saturated) == (0.25, 0.25)
    assert summary.mean == pytest.approx(0.125, abs=1e-3)
    assert summary.total_std == pytest.approx(0.625, abs=1e-3)
    (mean,) = recorder.means().values()  # of all kernels
    expected = torch.tensor([[1, -0.75, 0.25], [1, 0, 1]])
    torch.testing.assert_close(mean.float(), expected, rtol=0, atol=1e-3)


def test_coefficients_that_are_given_take_the_place_of_predicted_ones():
    layer = DyConv2d(1, 1, 1, num_kernels=1)
    x = torch.rand(1, 1, 4, 4)
    with CoefficientRecorder(layer) as recorder:
        layer(x, torch.full((1, 1, 1), 0.25))
        layer(x, coeff=torch.full((1, 1, 1), 0.75))
    (summary,) = recorder.summarize().values()
    assert (summary.num_images, summary.mean) == (2, 0.5)
    assert summary.between_image_std == 0.25


def test_nothing_is_recorded_before_and_after():
    network = nn.Sequential(DyConv2d(3, 4, 1), DyConv2d(4, 2, 1))
    frames = torch.rand(5, 1, 3, 8, 8)
    network(frames[0])
    recorder = CoefficientRecorder(network)
    with pytest.raises(ZeroDivisionError), recorder:
        network(frames[1])
        network(frames[2])
        raise ZeroDivisionError
    network(frames[3])
    assert [s.num_images for s in recorder.summarize().values()] == [2, 2]
    assert list(recorder.summarize()) == ["0", "1"]
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_training_is_not_changed_by_recording():
    layer = DyConv2d(3, 4, 1)
    x = torch.rand(2, 3, 8, 8)
    with torch.enable_grad():
        (expected,) = torch.autograd.grad(layer(x).sum(), [layer.predictor.logits.bias])
        with CoefficientRecorder(layer) as recorder:
            layer(x).sum().backward()
    torch.testing.assert_close(layer.predictor.logits.bias.grad, expected)
    assert recorder.summarize()[""].num_images == 2


def test_under_kernel_reuse_frames_count_with_coefficients_of_key_frames(vary):
    network = vary(nn.Sequential(DyConv2d(3, 4, 1), DyConv2d(4, 2, 1))).eval()
    frames = torch.rand(4, 1, 3, 8, 8)
    with CoefficientRecorder(network) as expected:
        for index in (0, 0, 2, 2):
            network(frames[index])
    with CoefficientRecorder(network) as recorder, KernelReuse(network, every=2):
        for frame in frames:
            network(frame)
    assert recorder.summarize() == expected.summarize()


def test_a_layer_that_did_not_run_is_left_out():
    network = nn.ModuleList([DyConv2d(3, 4, 1), DyConv2d(3, 4, 1)])
    with CoefficientRecorder(network) as recorder:
        network[1](torch.rand(2, 3, 8, 8))
    assert list(recorder.summarize()) == ["1"]


@pytest.mark.parametrize("num_images", [0, 1])
def test_fewer_than_two_images_are_refused(num_images):
    layer = DyConv2d(3, 4, 1)
    with CoefficientRecorder(layer) as recorder:
        for image in torch.rand(num_images, 1, 3, 8, 8):
            layer(image)
    with pytest.raises(ValueError, match=f"at least 2 images, got {num_images}"):
        recorder.summarize()


def test_a_static_network_is_refused():
    with pytest.raises(ValueError, match="Conv2d is static"):
        CoefficientRecorder(nn.Conv2d(3, 4, 1))


def summary(out_channels: int, **values: float) -> CoefficientSummary:
    defaults = dict(
        num_images=2, num_kernels=6, mean=0.5, total_std=0.2,
        between_image_std=0.1, between_image_share=0.5, dead=0.0, saturated=0.0,
    )  # fmt: skip
    return CoefficientSummary(out_channels=out_channels, **(defaults | values))


def test_an_average_weighs_layers_by_their_kernels():
    layers = {"a": summary(30, dead=0.1, mean=0.2), "b": summary(10, dead=0.5)}
    assert average(layers) == pytest.approx(
        dict(mean=0.275, between_image_std=0.1, between_image_share=0.5, dead=0.2,
             saturated=0.0)
    )  # fmt: skip
