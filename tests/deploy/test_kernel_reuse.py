"""Under kernel reuse, a network is the static one that its key frame fused."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from mmseg.models.backbones import ResNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.deploy.kernel_reuse import KernelReuse
from mmseg_dynet.models import DyMobileNetV2, DyMobileNetV3, DyResNet, DyShuffleNetV2
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

pytestmark = pytest.mark.usefixtures("at_inference")

CONFIG = (
    Path(__file__).parents[2]
    / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
)
NARROW = dict(widen_factor=0.5), dict(widen_factor=0.5, num_kernels=None)
# Dy- networks and their Fix- controls.
BACKBONES = {
    "dy-resnet18": [partial(net, 18, base_channels=8) for net in (DyResNet, ResNet)],
    "dy-mobile": [partial(DyMobileNetV2, **options) for options in NARROW],
    "dy-mobilenet-v3": [partial(DyMobileNetV3, **options) for options in NARROW],
    "dy-shuffle": [partial(DyShuffleNetV2, **options) for options in NARROW],
}


@pytest.fixture
def network() -> nn.Module:
    """Two layers that share a predictor, as in a block, and one that has its own."""
    return Network().eval()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predictor = CoefficientPredictor(3, [4, 4], num_kernels=2)
        self.conv1 = DyConv2d(3, 4, 3, num_kernels=2, own_predictor=False)
        self.conv2 = DyConv2d(4, 4, 1, num_kernels=2, own_predictor=False)
        self.head = DyConv2d(4, 2, 1, num_kernels=2)

    def forward(self, x: Tensor) -> Tensor:
        coeff1, coeff2 = self.predictor(x)
        return self.head(self.conv2(self.conv1(x, coeff1), coeff2))


def video(num_frames: int, *size: int) -> list[Tensor]:
    """Frames of one image each, every one brighter than the one before."""
    size = size or (32, 32)
    return [(1 + i) * torch.rand(1, 3, *size) for i in range(num_frames)]


def static_network(model: nn.Module, key_frame: Tensor, **call) -> nn.Module:
    """A copy whose predictors return for any frame what they did for the key frame."""
    static, recorded = deepcopy(model), {}
    predictors = [m for m in static.modules() if isinstance(m, CoefficientPredictor)]
    assert predictors

    def record(predictor: nn.Module, _: tuple, coeffs: tuple[Tensor, ...]) -> None:
        recorded[predictor] = coeffs

    hooks = [p.register_forward_hook(record) for p in predictors]
    static(key_frame, **call)
    for hook in hooks:
        hook.remove()
    for predictor in predictors:
        predictor.register_forward_hook(lambda p, *_: recorded[p])
    return static


def equal(outs: Tensor | tuple, others: Tensor | tuple) -> bool:
    if isinstance(outs, Tensor):
        return torch.equal(outs, others)
    return all(torch.equal(*pair) for pair in zip(outs, others, strict=True))


def check_reuse(model: nn.Module, frames: list[Tensor]) -> None:
    """Five frames, of which the first and the fourth are key frames."""
    plain = deepcopy(model)
    with KernelReuse(model, every=3):
        outs = [model(frame) for frame in frames]
    first, fourth = (static_network(plain, frames[i]) for i in (0, 3))
    for out, frame, network in zip(
        outs, frames, (plain, first, first, plain, fourth), strict=True
    ):
        assert equal(out, network(frame))
    assert not equal(outs[1], plain(frames[1]))
    assert equal(model(frames[4]), plain(frames[4]))


@pytest.mark.parametrize("name", BACKBONES)
def test_reused_frames_are_those_of_the_key_frames_static_network(name):
    build, _ = BACKBONES[name]
    check_reuse(build().eval(), video(5, 64, 64))


@pytest.mark.parametrize("int8", (False, True))
def test_deployed_segmentors_with_a_dynamic_head(int8):
    cfg = load_config(str(CONFIG))
    cfg.model.decode_head.conv_cfg = dict(type="DyConv2d", num_kernels=2)
    model = optimize_for_inference(build_model(cfg), int8)
    assert isinstance(model.decode_head.convs[0].conv, DyConv2d)
    frames = [f.to(memory_format=torch.channels_last) for f in video(5, 64, 64)]
    check_reuse(model, frames)


@pytest.mark.parametrize("name", BACKBONES)
def test_reused_frames_cost_what_the_fix_control_does(name):
    with torch.device("meta"):
        dynamic, control = (build() for build in BACKBONES[name])
        frame = torch.empty(1, 3, 224, 224)
    dynamic.eval()
    control.eval()

    def flops(network: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            network(frame)
        return counter.get_total_flops()

    plain, fixed = flops(dynamic), flops(control)
    assert plain > fixed
    with KernelReuse(dynamic, every=3):
        counted = [flops(dynamic) for _ in range(4)]
    assert counted == [plain, fixed, fixed, plain]


def test_a_restart_makes_a_key_frame(network):
    cut = video(4)
    expected = [network(frame) for frame in cut]
    static = static_network(network, cut[2])
    with KernelReuse(network, every=3) as reuse:
        network(cut[0])
        assert not equal(network(cut[1]), expected[1])
        reuse.restart()
        assert equal(network(cut[2]), expected[2])
        assert equal(network(cut[3]), static(cut[3]))


def test_a_wrapped_network_is_reached_by_its_test_step(network):
    """As MMDistributedDataParallel's, which passes it on to the network."""
    network.test_step = network.__call__
    wrapped = nn.DataParallel(network)
    x, other = torch.rand(2, 1, 3, 8, 8)
    expected = network(other)
    with KernelReuse(wrapped, every=2):
        wrapped.module.test_step(x)
        assert not equal(wrapped.module.test_step(other), expected)
        assert equal(wrapped.module.test_step(other), expected)


def test_frames_may_change_their_size_but_not_their_number(network):
    two = torch.rand(2, 3, 16, 16)
    expected = network(two)
    small, large = video(1, 8, 8)[0], video(1, 48, 40)[0]
    reused = static_network(network, small)(large)
    with KernelReuse(network, every=3) as reuse:
        network(small)
        assert equal(network(large), reused)
        with pytest.raises(ValueError, match=r"2 images.* for 1: .*restart.*every=1"):
            network(two)
        reuse.restart()
        assert equal(network(two), expected)
        # Each image has its own kernels.
        assert equal(network(two), expected)


def test_slide_inference_keeps_the_kernels_of_the_last_window():
    cfg = load_config(str(CONFIG))
    cfg.model.test_cfg = dict(mode="slide", crop_size=(64, 64), stride=(32, 32))
    model = build_model(cfg)
    key, reused = video(2, 64, 128)

    def logits(model: Callable, frame: Tensor) -> Tensor:
        (sample,) = model(frame, mode="predict")
        return sample.seg_logits.data

    expected = logits(model, key)
    static = static_network(model, key, mode="predict")
    with KernelReuse(model, every=2):
        assert equal(logits(model, key), expected)
        assert equal(logits(model, reused), logits(static, reused))


def test_after_a_key_frame_that_fails_comes_another(network):
    frames = video(3)
    expected = [network(frame) for frame in frames]
    with KernelReuse(network, every=2):
        network(frames[0])
        network(frames[0])
        fails = network.head.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            network(frames[1])
        fails.remove()
        assert equal(network(frames[2]), expected[2])


def test_weights_keep_their_names_and_modules_come_back(network):
    network = optimize_for_inference(network)
    modules, names = dict(network.named_modules()), list(network.state_dict())
    attributes = [set(vars(m)) for m in modules.values()]
    with pytest.raises(ZeroDivisionError), KernelReuse(network, every=2):
        assert list(network.state_dict()) == names
        assert dict(network.named_modules()) == modules
        network(torch.rand(1, 3, 8, 8))
        raise ZeroDivisionError
    assert dict(network.named_modules()) == modules
    assert [set(vars(m)) for m in modules.values()] == attributes
    assert not network._forward_hooks
    assert not network._forward_pre_hooks


def test_two_at_a_time_are_refused(network):
    first = KernelReuse(network, every=2)
    for model in (network, nn.Sequential(network)):
        with pytest.raises(ValueError, match=r"remove\(\)"):
            KernelReuse(model, every=2)
    first.remove()
    KernelReuse(network, every=2)


def test_a_copy_has_its_own_kernels_and_count(network):
    frames = video(3)
    static = static_network(network, frames[0])
    reuse = KernelReuse(network, every=3)
    network(frames[0])
    copied = deepcopy(network)
    reuse.restart()
    network(frames[2])
    assert equal(copied(frames[1]), static(frames[1]))


def test_training_and_gradients_are_refused(network):
    frame = video(1)[0]
    with KernelReuse(network, every=2):
        with torch.enable_grad(), pytest.raises(ValueError, match="no_grad"):
            network(frame)
        network.train()
        with pytest.raises(ValueError, match=r"eval\(\)"):
            network(frame)
        network.eval()
        with torch.inference_mode():
            network(frame)


@pytest.mark.parametrize("every", (0, 2.5))
def test_every_below_1_or_a_fraction_is_refused(network, every):
    with pytest.raises(ValueError, match=f"every={every} must be a whole number"):
        KernelReuse(network, every)


def test_a_static_network_is_left_as_it_is():
    network = nn.Conv2d(3, 4, 3).eval()
    frames = video(2)
    expected = [network(frame) for frame in frames]
    with KernelReuse(network, every=2):
        assert all(map(equal, map(network, frames), expected))


@pytest.mark.recent_torch
def test_a_compiled_network_has_two_graphs(network):
    frames = video(7)
    with KernelReuse(network, every=3):
        expected = [network(frame) for frame in frames]
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    with KernelReuse(compiled, every=3):
        outs = [compiled(frame) for frame in frames]
    assert all(map(equal, outs, expected))
    assert len(graphs) == 2
