"""dynamize(): the contract that holds for every network, and what it makes dynamic."""

import copy
import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import initialize
from mmengine.registry import MODELS, init_default_scope
from mmseg.models.backbones import (
    DDRNet,
    FastSCNN,
    HRNet,
    MixVisionTransformer,
    MobileNetV2,
    PIDNet,
    ResNet,
    STDCContextPathNet,
    UNet,
)
from mmseg.models.backbones.bisenetv2 import BiSeNetV2
from pytorchcv.models.resnet import ResNet as ThirdPartyResNet
from pytorchcv.models.shufflenetv2 import get_shufflenetv2
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import spectral_norm as parametrized_spectral_norm
from torch.nn.utils.prune import l1_unstructured
from torch.utils.checkpoint import checkpoint

from mmseg_dynet.analysis.coefficients import CoefficientRecorder
from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.deploy import KernelReuse, fold_bn
from mmseg_dynet.models import DyResNet
from mmseg_dynet.models.dynamize import dynamize, to_static
from mmseg_dynet.models.dynamize.share import Share
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d


def _stdc() -> nn.Module:
    return STDCContextPathNet(
        dict(
            type="STDCNet", stdc_type="STDCNet1", in_channels=3, bottleneck_type="cat",
            channels=(8, 16, 16, 32, 64), norm_cfg=dict(type="BN"),
            act_cfg=dict(type="ReLU"),
        ),
        last_in_channels=(64, 32),
        out_channels=16,
        ffm_cfg=dict(in_channels=32, out_channels=16, scale_factor=4),
    )  # fmt: skip


def _hrnet(**options) -> nn.Module:
    stages = [("BOTTLENECK", (8,)), ("BASIC", (4, 8)), ("BASIC", (4, 8, 16))]
    stages.append(("BASIC", (4, 8, 16, 32)))
    extra = {
        f"stage{i}": dict(
            num_modules=1, num_branches=i, block=block, num_channels=channels,
            num_blocks=(1,) * i,
        )
        for i, (block, channels) in enumerate(stages, start=1)
    }  # fmt: skip
    return HRNet(extra, **options)


# Networks, tiny, and how many of their convolutions become dynamic.
NETWORKS: dict[str, tuple[Callable[..., nn.Module], int, int]] = {
    "ddrnet": (lambda: DDRNet(channels=8, ppm_channels=8), 39, 53),
    "mobilenetv2": (lambda **o: MobileNetV2(widen_factor=0.25, **o), 50, 51),
    "pidnet": (lambda: PIDNet(channels=8, ppm_channels=8), 51, 73),
    "stdc": (_stdc, 27, 39),
    "bisenetv2": (
        lambda: BiSeNetV2(3, (8, 8, 16), (4, 8, 8, 16), 2, bga_channels=16), 41, 54,
    ),
    "fast-scnn": (
        lambda: FastSCNN(3, (8, 8), 16, (16, 24, 32), global_out_channels=32,
                         higher_in_channels=16, lower_in_channels=32,
                         fusion_out_channels=16), 33, 40,
    ),
    "hrnet": (_hrnet, 21, 53),
    "unet": (lambda **o: UNet(base_channels=4, **o), 17, 22),
    "mit": (
        lambda: MixVisionTransformer(embed_dims=8, num_layers=(1, 1, 1, 1),
                                     num_heads=(1, 2, 4, 8)), 12, 19,
    ),
    "pytorchcv-resnet": (
        lambda: ThirdPartyResNet([[8, 8], [16, 16], [32, 32], [64, 64]], 8,
                                 bottleneck=False, conv1_stride=True, num_classes=10),
        16, 20,
    ),
}  # fmt: skip
init_default_scope("mmseg")  # UNet and STDCNet build their parts from it


def networks(*fast: str) -> list:
    """The names of all networks, of which only some are not slow."""
    slow = pytest.mark.slow
    return [n if n in fast else pytest.param(n, marks=slow) for n in NETWORKS]


@pytest.fixture(params=networks("ddrnet", "pytorchcv-resnet"))
def build(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    """Builds one of the networks."""
    torch.manual_seed(0)
    return NETWORKS[request.param][0]


@pytest.fixture(params=networks("pytorchcv-resnet"))
def build_graph(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    """Builds one of the networks, to be compiled or exported, which takes long."""
    torch.manual_seed(0)
    return NETWORKS[request.param][0]


def evaluated(model: nn.Module) -> nn.Module:
    """In eval mode: of the host's networks, some return None."""
    model.eval()
    return model


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    outs = model(x)
    return [outs] if isinstance(outs, Tensor) else list(outs)


def images(*shape: int, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(shape or (2, 3, 224, 224), dtype=dtype)


def predictors(model: nn.Module) -> list[CoefficientPredictor]:
    return [m for m in model.modules() if isinstance(m, CoefficientPredictor)]


def means(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    with CoefficientRecorder(model) as recorder, torch.no_grad():
        model(x)
    return recorder.means()


def waiting(model: nn.Module) -> list:
    shares = [m for m in model.modules() if isinstance(m, Share)]
    assert shares
    return [s.prediction.waiting for s in shares if s.prediction.waiting]


def test_coefficients_at_1_compute_the_static_network(build, make_equal):
    static = evaluated(build().double())
    dynamic = dynamize(copy.deepcopy(static), num_kernels=1)
    make_equal(dynamic, static)
    x = images()
    with torch.no_grad():
        torch.testing.assert_close(outputs(dynamic, x), outputs(static, x))


def test_from_static_starts_out_equal_and_becomes_static_again(
    build, coefficients, draw_norms
):
    static = build()
    draw_norms(static)
    static.eval()
    options = dict(from_static=True, coefficients=coefficients)
    dynamic = dynamize(copy.deepcopy(static), **options)
    loaded = evaluated(dynamize(build(), **options))
    # As some hosts do, such as ICNet.
    initialize(loaded, dict(type="Normal", layer="Linear", mean=0.01, std=1))
    loaded.load_state_dict(static.state_dict(), strict=False)
    other = dynamize(build(), **options)  # as in another process
    other.load_state_dict(static.state_dict(), strict=False)
    for name, layer in loaded.named_modules():
        if isinstance(layer, DyConv2d):
            assert torch.equal(layer.weight, other.get_submodule(name).weight)
    x = images(1, 3, 224, 224, dtype=torch.float)
    again = to_static(dynamic, means(dynamic, x))
    assert not hasattr(again, "dynamization")
    assert [*again.state_dict()] == [*static.state_dict()]
    with torch.no_grad():
        expected = outputs(static, x)
        for model in (dynamic, loaded, again):
            for got, out in zip(outputs(model, x), expected, strict=True):
                assert (got - out).abs().max() < 1e-4 * out.abs().max()


def test_rows_of_a_batch_are_independent(build):
    model = evaluated(dynamize(build()).double())
    x = images()
    with torch.no_grad():
        together = outputs(model, x)
        for i in range(2):
            alone = outputs(model, x[i : i + 1])
            torch.testing.assert_close([out[i : i + 1] for out in together], alone)


@pytest.mark.parametrize("use_reentrant", (False, True))
def test_a_checkpoint_predicts_anew(build, use_reentrant):
    model = dynamize(build()).double()
    calls = []
    predictors(model)[-1].register_forward_hook(lambda *_: calls.append(1))
    x = images().requires_grad_()

    def gradients(run: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
        model.zero_grad()
        sum(out.square().mean() for out in run(x)).backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = gradients(lambda x: outputs(model, x))
    checkpointed = gradients(
        lambda x: checkpoint(lambda x: tuple(outputs(model, x)), x,
                             use_reentrant=use_reentrant)
    )  # fmt: skip
    torch.testing.assert_close(checkpointed, plain)
    assert len(calls) == 3
    assert not waiting(model)


def test_state_dict_deepcopy_and_pickle(build, tmp_path):
    model = dynamize(build())
    x = images(dtype=torch.float)
    outputs(model, x)  # leaves nothing that cannot be copied
    model.eval()
    other = evaluated(dynamize(build()))
    other.load_state_dict(model.state_dict())
    torch.save(model, tmp_path / "model.pt")
    pickled = torch.load(tmp_path / "model.pt", weights_only=False)
    with torch.no_grad():
        expected = outputs(model, x)
        for copied in (other, copy.deepcopy(model), pickled):
            assert all(map(torch.equal, outputs(copied, x), expected))


def test_channels_last_gives_the_same(build):
    model = evaluated(dynamize(build()).double())
    x = images()
    with torch.no_grad():
        expected = outputs(model, x)
        model.to(memory_format=torch.channels_last)
        got = outputs(model, x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected)


def test_folded_batch_norms_compute_the_same(build):
    model = dynamize(build()).double()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1  # statistics of its own activations
    x = images()
    with torch.no_grad():
        model.train()
        model(x)
        model.eval()
        torch.testing.assert_close(outputs(fold_bn(model), x), outputs(model, x))


def test_kernels_are_reused(build):
    model = evaluated(dynamize(build()).double())
    first, second = images(1, 3, 224, 224), images(1, 3, 224, 224)
    static = to_static(model, means(model, first))
    with torch.no_grad(), KernelReuse(model, every=2):
        outputs(model, first)
        torch.testing.assert_close(outputs(model, second), outputs(static, second))


@pytest.mark.recent_torch
def test_compiles_without_graph_breaks(build_graph):
    model = evaluated(dynamize(build_graph()).double())
    x = images()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(outputs(compiled, x), outputs(model, x))


@pytest.mark.recent_torch
def test_exports_to_a_program_and_to_onnx(build_graph, check_exports):
    model = evaluated(dynamize(build_graph()))
    check_exports(model, images(1, 3, 224, 224, dtype=torch.float))


@pytest.mark.parametrize("name", NETWORKS)
def test_how_many_convolutions_become_dynamic(name):
    build, dynamic, total = NETWORKS[name]
    report = dynamize(build()).dynamization
    assert not report.alone
    assert sum(map(len, report.blocks.values())) == dynamic
    assert dynamic + len(report.static) == total


def test_ddrnet_is_dynamic_in_its_blocks_and_nowhere_else():
    model = dynamize(DDRNet(channels=8, ppm_channels=8))
    report = model.dynamization
    assert report.blocks["stem.4.0"] == ["stem.4.0.conv1.conv", "stem.4.0.conv2.conv"]
    assert report.static == {
        "stem.0.conv": "sees the network's input",
        **dict.fromkeys(
            ("stem.1.conv", "compression_1.conv", "down_1.conv", "compression_2.conv",
             "down_2.0.conv", "down_2.1.conv"),
            "outside of all blocks",
        ),
        **dict.fromkeys(
            ("stem.4.0.downsample.0", "context_branch_layers.0.0.downsample.0",
             "context_branch_layers.1.0.downsample.0",
             "context_branch_layers.2.0.downsample.0",
             "spatial_branch_layers.2.0.downsample.0", "spp.shortcut.conv"),
            "beside the row of its block",
        ),
        "spp.scales.4.1.conv": "sees a pooled map",
    }  # fmt: skip
    assert len(predictors(model)) == len(report.blocks) == 15
    assert "39 of 53 convolutions made dynamic" in str(report)


def test_a_dynamized_resnet_is_dy_resnet():
    torch.manual_seed(0)
    model, reference = (
        evaluated(dynamize(ResNet(50, base_channels=8))),
        evaluated(DyResNet(50, base_channels=8)),
    )
    assert [*model.state_dict()] == [*reference.state_dict()]
    reference.load_state_dict(model.state_dict())
    x = images(2, 3, 64, 64, dtype=torch.float)
    with torch.no_grad():
        assert all(map(torch.equal, outputs(model, x), outputs(reference, x)))


def test_squeeze_excite_and_shorter_rows_stay_static():
    """As in Dy-shuffle, whose left branch is static, and in Dy-MobileNetV3."""
    shuffle = dynamize(get_shufflenetv2(width_scale=0.5, use_se=True)).dynamization
    unit = "features.stage1.unit1"
    convs = ("compress_conv1", "dw_conv2", "expand_conv3")
    assert shuffle.blocks[unit] == [f"{unit}.{conv}" for conv in convs]
    assert shuffle.static[f"{unit}.se.conv1"] == "sees a pooled map"
    assert shuffle.static[f"{unit}.dw_conv4"] == "beside the row of its block"


@pytest.mark.filterwarnings("ignore:.*use_reentrant")
@pytest.mark.parametrize("name", ("mobilenetv2", "hrnet", "unet"))
def test_with_cp_of_the_network_gives_the_same_gradients(name):
    build, x, gradients = NETWORKS[name][0], images(), []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = dynamize(build(with_cp=with_cp)).double()
        leaf = x.clone().requires_grad_()
        sum(out.square().mean() for out in outputs(model, leaf)).backward()
        gradients.append([p.grad for p in model.parameters()])
        assert not waiting(model)
    torch.testing.assert_close(*gradients)


class Toy(nn.Module):
    """A block of three convolutions, one of them given."""

    def __init__(self, last: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 1)
        self.last = last or nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.third(self.second(self.first(x)).relu())).relu()


class _TwiceAsMuch(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class _TwiceInside(nn.Conv2d):
    def _conv_forward(self, *args) -> Tensor:
        return 2 * super()._conv_forward(*args)


def _replaced() -> nn.Module:
    conv = nn.Conv2d(4, 4, 3)
    conv.forward = lambda x: 2 * nn.Conv2d.forward(conv, x)
    return conv


def _hooked() -> nn.Module:
    conv = nn.Conv2d(4, 4, 3)
    conv.register_forward_hook(lambda _, __, out: 2 * out)
    return conv


@pytest.mark.parametrize(
    ("build_last", "reason"),
    [
        (lambda: _TwiceAsMuch(4, 4, 3), "_TwiceAsMuch has a forward of its own"),
        (lambda: _TwiceInside(4, 4, 3), "_TwiceInside has a forward of its own"),
        (_replaced, "Conv2d has a forward of its own"),
        (lambda: spectral_norm(nn.Conv2d(4, 4, 3)), "computes its weight"),
        (lambda: parametrized_spectral_norm(nn.Conv2d(4, 4, 3)), "computes its weight"),
        (_hooked, "has hooks"),
        (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
         "padding=(1, 1), padding_mode='reflect'"),
        (lambda: nn.Conv2d(4, 4, 3, padding="same"),
         "padding='same', padding_mode='zeros'"),
    ],
)  # fmt: skip
def test_what_cannot_be_replaced_exactly_stays_static(build_last, reason):
    last = build_last()
    model = dynamize(Toy(last))
    assert model.last is last
    assert model.dynamization.static["last"] == reason
    model = dynamize(Toy(build_last()), include=".*")
    assert model.dynamization.static == {"last": reason}


@pytest.mark.parametrize(
    "compute_weight", [spectral_norm, lambda conv: l1_unstructured(conv, "weight", 0.5)]
)
def test_computed_weights_are_copied_after_a_step(compute_weight, draw_norms):
    first, second = compute_weight(nn.Conv2d(4, 4, 1)), nn.Conv2d(4, 4, 1)
    norms = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    network = nn.Sequential(Toy(), first, norms[0], second, norms[1])
    draw_norms(network)
    x = images(1, 3, 8, 8, dtype=torch.float)
    network(x).sum().backward()  # leaves a weight with a graph
    macs = count_complexity(network, x.shape).macs
    assert macs == 64 * (4 * 3 * 9 + 2 * 4 * 4 * 9 + 3 * 4 * 4)
    folded = fold_bn(dynamize(network.eval()))
    assert [isinstance(folded[i], nn.BatchNorm2d) for i in (2, 4)] == [True, False]
    coefficients, expected = means(network, x), network(x)
    torch.testing.assert_close(folded(x), expected)
    torch.testing.assert_close(to_static(network, coefficients)(x), expected)


def test_convolutions_shared_between_places_stay_static():
    model = Toy()
    model.last.weight = model.second.weight
    model.again = model.third
    reasons = dynamize(model, include=".*").dynamization.static
    shared = "shared between places"
    assert reasons == dict.fromkeys(("second", "third", "last"), shared)

    class Twice(Toy):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.third(self.third(self.second(self.first(x)))))

    reasons = dynamize(Twice(), include=".*").dynamization.static
    assert reasons == {"third": shared}


def test_include_exclude_and_blocks():
    report = dynamize(
        DDRNet(channels=8), include=["compression_.", "stem"]
    ).dynamization
    assert report.alone == ["stem.0.conv", "stem.1.conv", "stem.4.0.downsample.0",
                            "compression_1.conv", "compression_2.conv"]  # fmt: skip
    assert list(report.blocks) == ["stem.2.0", "stem.2.1", "stem.4.0", "stem.4.1"]

    report = dynamize(
        DDRNet(channels=8), exclude=r"spp|stem\.2\..*\.conv1"
    ).dynamization
    assert report.blocks["stem.2.0"] == ["stem.2.0.conv2.conv"]
    assert report.static["spp.compression.conv"] == "excluded"

    unet = dynamize(UNet(base_channels=4), blocks=[r"decoder\.\d", r".*\.3\.1\.convs"])
    rows = unet.dynamization.blocks
    assert [*rows] == ["encoder.3.1.convs", *(f"decoder.{i}" for i in (3, 2, 1, 0))]
    assert len(rows["decoder.0"]) == 3
    outputs(unet, images(dtype=torch.float))
    with pytest.raises(ValueError, match=r"\['last'\] run no two convolutions in"):
        dynamize(Toy(), blocks=["", "last"])
    with pytest.raises(ValueError, match=r"several hold the row of layer1\.0\.conv1"):
        dynamize(ResNet(18), blocks=["layer1", r"layer1\.0"])
    for option in ("include", "exclude", "blocks"):
        with pytest.raises(ValueError, match=f"^{option}: 'stage' matches no mod"):
            dynamize(Toy(), **{option: ["", "stage"]})
    with pytest.raises(ValueError, match=r"include: '\*' matches .*nothing to repeat"):
        dynamize(Toy(), include="*")


def test_a_second_call_changes_only_what_is_still_static():
    model = dynamize(DDRNet(channels=8), exclude="spp")
    names = [*model.state_dict()]
    assert [*dynamize(model, exclude="spp").state_dict()] == names
    report = dynamize(model, include="down_1").dynamization
    assert (report.alone, report.blocks) == (["down_1.conv"], {})
    report = dynamize(model).dynamization
    assert [*report.blocks] == ["spp"]
    outputs(model, images(dtype=torch.float))
    other = dynamize(dynamize(Toy(), exclude="second"), include="second")
    outputs(other, images(1, 3, 8, 8, dtype=torch.float))
    assert "0 of 5 convolutions" in str(dynamize(DyResNet(18)).dynamization)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(2, 2), {}, "Linear has no 2-D convolution"),
        (nn.Conv2d(3, 4, 3), dict(include=".*"), "or is one: use DyConv2d"),
        (nn.Sequential(nn.Conv2d(3, 3, 1)), {}, "0 sees the network's input"),
        (Toy(), dict(reduction=0), "reduction=0 must be at least 1"),
        (Toy(), dict(num_kernels=None), "num_kernels must be at least 1, got None"),
        (Toy(), dict(exclude=".*"), "no convolution of Toy .* first excluded"),
        (Toy(), dict(input_shape=(1, 4, 8, 8)), r"not run on a tensor \(1, 4, 8, 8\)"),
        (Toy(), dict(coefficients=dict(static_kernel=True), num_kernels=1), "at least"),
    ],
)  # fmt: skip
def test_a_network_that_stays_static_is_an_error(model, options, message):
    with pytest.raises(ValueError, match=message):
        dynamize(model, **options)
    assert not any(isinstance(module, DyConv2d) for module in model.modules())


@pytest.mark.parametrize(
    "finish",
    [
        nn.Identity(),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Softmax(1),
        lambda logits: logits[..., 1:, 1:].unsqueeze(1).movedim(2, -1).half(),
        lambda logits: {
            "out": nn.functional.interpolate(input=logits, size=8).sigmoid()
        },
        lambda logits: torch.squeeze(torch.chunk(logits.reshape(1, 2, -1), 2, 1)[1], 1),
    ],
    ids=["as it is", "resized", "normalised", "cut and turned", "both", "functions"],
)
def test_the_classifier_stays_static(finish):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.classifier = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            self.first, self.second = (nn.Conv2d(4, 4, 3) for _ in range(2))

        def forward(self, x):
            return finish(self.classifier(self.second(self.first(self.stem(x)))))

    report = dynamize(Network()).dynamization
    assert report.blocks == {"": ["first", "second"]}
    assert report.static["classifier"] == "produces the network's output"


def test_a_feature_map_changed_in_place_is_not_a_classifiers():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.first, self.second = (nn.Conv2d(4, 4, 3) for _ in range(2))

        def forward(self, x):
            x = nn.functional.relu(self.first(self.stem(x)), inplace=True)
            x = self.second(x)
            x += 1
            return x

    assert dynamize(Network()).dynamization.blocks == {"": ["first", "second"]}


def test_dtype_device_mode_and_what_is_frozen_are_kept():
    model = Toy().double().eval()
    model.second.requires_grad_(False)
    dynamize(model)
    assert (
        model.second.weight.dtype == model.predictor.logits.weight.dtype == torch.double
    )
    assert not model.second.weight.requires_grad
    assert model.third.weight.requires_grad and not model.second.training
    assert not any(module.training for module in model.predictor.modules())
    assert all(parameter.requires_grad for parameter in model.predictor.parameters())
    assert dynamize(Toy(), reduction=None).predictor.hidden is None
    for frozen in (Toy(), nn.Sequential(nn.Conv2d(3, 3, 1))):
        dynamize(frozen.requires_grad_(False), include=".*")
        assert not any(p.requires_grad for p in frozen.parameters())


def test_the_report_counts_what_the_counter_counts():
    shape = (2, 3, 64, 128)
    with torch.device("meta"):
        static = DDRNet(channels=8, ppm_channels=8)
        dynamic = dynamize(DDRNet(channels=8, ppm_channels=8), input_shape=shape)
    counts = [count_complexity(model, shape) for model in (static, dynamic)]
    assert dynamic.dynamization.macs == tuple(count.macs for count in counts)
    assert dynamic.dynamization.parameters == tuple(c.parameters for c in counts)


def test_the_report_counts_windows_and_what_does_not_run():
    class Windows(Toy):
        def __init__(self):
            super().__init__()
            self.unused = nn.Conv2d(4, 4, 3)

        def forward(self, x):  # (B, 3, 8, 8) as (4B, 3, 4, 4)
            x = x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).movedim((2, 4), (0, 1))
            return super().forward(x.flatten(0, 2))

    shape = (2, 3, 8, 8)
    model = dynamize(Windows(), include=".*", input_shape=shape)
    assert isinstance(model.unused, DyConv2d)
    assert model.dynamization.macs[1] == count_complexity(model, shape).macs


def test_threads_do_not_mix_their_images():
    model = dynamize(DDRNet(channels=8, ppm_channels=8)).eval().requires_grad_(False)
    xs = images(4, 1, 3, 128, 128, dtype=torch.float)
    expected, got = [model(x) for x in xs], {}

    def run(i: int) -> None:
        for _ in range(5):
            got[i] = model(xs[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(got[i], expected[i]) for i in range(4))


def test_a_block_cut_in_two_is_an_error():
    block = dynamize(Toy(), include=".*")
    x = images(2, 3, 8, 8, dtype=torch.float).requires_grad_()
    with pytest.raises(RuntimeError, match="has not run before them"):
        block.second(block.first.convolve(x, torch.ones(2, 4, 3, 3, 3)))
    out = checkpoint(block.first, x, use_reentrant=True)  # predicts without gradients
    with pytest.raises(RuntimeError, match="has not run before them"):
        block.second(out)


def test_a_predictor_that_takes_the_place_of_another_predicts():
    model, x = dynamize(Toy()), images(2, 3, 8, 8, dtype=torch.float)
    model.predictor = CoefficientPredictor(4, [4] * 3)
    model.predictor.predict_start()
    halves = {name: torch.full((4, 6), 0.5) for name in means(model, x)}
    torch.testing.assert_close(model(x), to_static(model, halves)(x))


@pytest.fixture
def static_weights(tmp_path, draw_norms) -> str:
    """A checkpoint of a static DDRNet."""
    model = DDRNet(channels=8, ppm_channels=8)
    draw_norms(model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "static.pth")
    return str(tmp_path / "static.pth")


def segmentor(pretrained: str | None = None, **backbone) -> dict:
    module = dict(type="DDRNet", channels=8, ppm_channels=8)
    head = dict(type="DDRHead", in_channels=32, channels=8, num_classes=19,
                norm_cfg=dict(type="BN"))  # fmt: skip
    backbone = dict(type="Dynamized", module=module, **backbone)
    return ConfigDict(type="EncoderDecoder", backbone=backbone, decode_head=head,
                      test_cfg=dict(mode="whole"), pretrained=pretrained)  # fmt: skip


@pytest.mark.parametrize("name", ("pretrained", "init_cfg"))
def test_a_config_builds_a_dynamized_backbone_from_given_weights(static_weights, name):
    init_cfg = dict(type="Pretrained", checkpoint=static_weights)
    given = dict(pretrained=static_weights, init_cfg=init_cfg)[name]
    model = MODELS.build(segmentor(**{name: given}, from_static=True))
    model.init_weights()
    model.eval()
    static = DDRNet(channels=8, ppm_channels=8).eval()
    static.load_state_dict(torch.load(static_weights)["state_dict"])
    x = images(dtype=torch.float)
    with torch.no_grad():
        expected = static(x)
        assert (model.backbone(x) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert isinstance(model.backbone, DDRNet)


def test_a_config_builds_a_dynamized_segmentor():
    preprocessor = dict(type="SegDataPreProcessor", mean=[1.0], std=[2.0])
    module = ConfigDict(segmentor(), backbone=segmentor()["backbone"]["module"])
    given = dict(data_preprocessor=preprocessor)  # as a Runner gives it
    model = MODELS.build(dict(type="Dynamized", module=module, include=".*", **given))
    assert model.data_preprocessor.std.item() == 2
    assert any(isinstance(m, DyConv2d) for m in model.decode_head.modules())


def test_none_is_an_init_cfg_that_two_sources_are_not(static_weights):
    init_cfg = dict(type="Pretrained", checkpoint=static_weights)
    module = dict(type="DDRNet", channels=8, ppm_channels=8, init_cfg=init_cfg)
    build = partial(MODELS.build, dict(type="Dynamized", module=module))
    assert build().init_cfg == init_cfg
    assert build(default_args=dict(init_cfg=None)).init_cfg is None
    with pytest.raises(ValueError, match="both name initial weights: set one"):
        build(default_args=dict(pretrained=static_weights))


def test_static_weights_without_from_static_are_an_error(static_weights):
    model = MODELS.build(segmentor(static_weights))
    with pytest.raises(ValueError, match="set from_static=True"):
        model.init_weights()


def test_to_static_wants_what_dynamize_has_made():
    model = dynamize(Toy())
    with pytest.raises(ValueError, match="coefficients lack the dynamic layer second"):
        to_static(model, {})
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1 gets its coefficients"):
        to_static(DyResNet(18), {})


def test_a_layer_in_two_places_becomes_static_in_both():
    layer = DyConv2d(3, 3, 3, padding=1, num_kernels=2)
    model, x = nn.Sequential(layer, nn.ReLU(), layer), images(1, 3, 8, 8)
    halves = {"0": torch.full((3, 2), 0.5)}
    static = to_static(model.double(), halves)
    assert type(static[0]) is nn.Conv2d and static[0] is static[2]
    layer.predictor.predict_start()
    torch.testing.assert_close(static(x), model(x))
