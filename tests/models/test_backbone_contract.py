"""One contract, held by every backbone of the package."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.deploy import fold_bn
from mmseg_dynet.models import (
    DyMobileNetV2,
    DyMobileNetV3,
    DyResNet,
    DyShuffleNetV2,
    ShuffleNetV2,
)
from mmseg_dynet.ops import CoefficientPredictor, DyConv2d

NETWORKS = (DyMobileNetV2, DyMobileNetV3, DyResNet, DyShuffleNetV2, ShuffleNetV2)


def meta(case, **options) -> nn.Module:
    with torch.device("meta"):
        return case.build_all_stages(**options)


def test_stages_have_the_documented_shapes_and_equal_weights_at_each_stride(case):
    """What was trained at stride 32 on ImageNet starts a segmentation at 8."""
    weights = []
    for output_stride in (8, 16, 32):
        backbone = meta(case, **case.options.get(output_stride, {}))
        strides = [min(stride, output_stride) for stride in case.strides]
        outs = backbone(torch.empty(2, 3, 128, 192, device="meta"))
        assert isinstance(outs, tuple)
        assert [tuple(out.shape) for out in outs] == [
            (2, c, 128 // s, 192 // s)
            for c, s in zip(case.channels, strides, strict=True)
        ]
        weights.append({n: w.shape for n, w in backbone.state_dict().items()})
    assert weights[0] == weights[1] == weights[2]


def test_one_out_index_is_a_tuple_too(case):
    backbone, x = case.build_small().eval(), torch.randn(1, 3, 64, 64)
    one = case.build(out_indices=(1,), **case.small).eval()
    one.load_state_dict(backbone.state_dict(), strict=False)
    (out,) = one(x)
    assert torch.equal(out, backbone(x)[1])


def test_a_hook_on_the_last_stage_sees_its_output(case):
    backbone = case.build_small().eval()
    stage = getattr(backbone, "layer4", None) or backbone.stages[-1]
    seen = []
    stage.register_forward_hook(lambda *args: seen.append(args[-1]))
    assert backbone(torch.randn(1, 3, 64, 64))[-1] is seen[0]


def test_pretrained_names_a_checkpoint(case, tmp_path):
    weights = case.build_small().state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    backbone = case.build_small(pretrained=str(tmp_path / "weights.pth"))
    backbone.init_weights()
    assert all(torch.equal(w, weights[n]) for n, w in backbone.state_dict().items())


def test_images_may_have_other_channels(case):
    backbone = case.build_small(in_channels=4)
    backbone(torch.randn(2, 4, 64, 64))
    weights, usual = backbone.state_dict(), case.build_small().state_dict()
    changed = [n for n in weights if weights[n].shape != usual[n].shape]
    assert changed == [next(iter(weights))]  # the first convolution's


def test_every_dynamic_layer_is_served_by_the_predictor_of_its_block(case):
    modules = [*case.build_small().modules()]
    convs = [m for m in modules if isinstance(m, DyConv2d)]
    predictors = [m for m in modules if isinstance(m, CoefficientPredictor)]
    assert bool(convs) == bool(predictors) == case.dynamic
    assert all(conv.predictor is None for conv in convs)
    assert sum(len(p.out_channels) for p in predictors) == len(convs)


def test_odd_sizes_are_rounded_up_and_every_parameter_gets_a_gradient(case):
    torch.manual_seed(0)
    backbone = case.build_small()
    backbone.init_weights()
    outs = backbone(torch.randn(2, 3, 53, 71))
    for out, stride in zip(outs, case.strides, strict=True):
        assert out.shape[2:] == (-(-53 // stride), -(-71 // stride))
    sum(out.square().mean() for out in outs).backward()
    without = [n for n, p in backbone.named_parameters() if p.grad is None]
    assert without == []


def with_statistics(backbone: nn.Module, x: torch.Tensor) -> nn.Module:
    """Give batch norms statistics of their inputs, as trained networks have.

    Otherwise activations grow from block to block, and predictors of huge inputs
    magnify every rounding.
    """
    for module in backbone.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1
    with torch.no_grad():
        backbone.train()(x)
    return backbone.eval()


@pytest.fixture
def network_and_outputs(case):
    """A network, an image and what float64 makes of it on the CPU."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 96, dtype=torch.double)
    backbone = with_statistics(case.build_small().double(), x)
    with torch.no_grad():
        outs = backbone(x)
    return backbone.float(), x.float(), outs


def assert_near(outs, expected, error):
    for out, right in zip(outs, expected, strict=True):
        assert (out.double().cpu() - right).norm() < error * right.norm()


def test_float32_is_near_float64_on_the_cpu(network_and_outputs, device):
    backbone, x, expected = network_and_outputs
    with torch.no_grad():
        assert_near(backbone.to(device)(x.to(device)), expected, 1e-3)


def test_autocast_is_near_float64_and_trains(
    network_and_outputs, device, autocast_type
):
    backbone, x, expected = network_and_outputs
    backbone.to(device)
    with torch.autocast(device, autocast_type):
        outs = backbone(x.to(device))
    # Of the first stage: deep networks of random weights magnify each rounding.
    assert_near(outs[:1], expected[:1], 0.06)
    sum(out.float().square().mean() for out in outs).backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.gpu
def test_a_captured_graph_is_replayed_on_other_images(network_and_outputs):
    backbone, x, expected = network_and_outputs
    backbone.to("cuda")
    image = torch.rand_like(x).to("cuda")
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # kernels are chosen
            backbone(image)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outs = backbone(image)
        image.copy_(x)
        graph.replay()
        assert_near(outs, expected, 1e-3)


def test_rows_of_a_batch_are_independent(case):
    torch.manual_seed(0)
    backbone = case.build_small().double().eval()
    x = torch.randn(3, 3, 64, 64, dtype=torch.double)
    with torch.no_grad():
        together = backbone(x)
        for i in range(3):
            alone = backbone(x[i : i + 1])
            torch.testing.assert_close([out[i : i + 1] for out in together], [*alone])


def test_checkpointed_equals_plain(case, device):
    torch.manual_seed(0)
    plain = case.build_small(with_cp=False).to(device, torch.double)
    checkpointed = case.build_small(with_cp=True).to(device, torch.double)
    checkpointed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 48, 48, dtype=torch.double, device=device)
    grads, calls = [], []
    for backbone in (plain, checkpointed):
        *_, last = (
            m for m in backbone.modules() if isinstance(m, nn.Conv2d | DyConv2d)
        )
        calls.append([])
        last.register_forward_hook(lambda *_, c=calls[-1]: c.append(1))
        leaf = x.clone().requires_grad_()
        loss = sum(out.square().mean() for out in backbone(leaf))
        grads.append(torch.autograd.grad(loss, [leaf, *backbone.parameters()]))
    torch.testing.assert_close(*grads)
    # Its activations are computed anew in the backward pass.
    assert [len(c) for c in calls] == [1, 2]


@pytest.mark.parametrize("frozen_stages", (-1, 0, 2))
def test_frozen_stages_are_stem_and_stages_from_construction_on(case, frozen_stages):
    backbone = case.build_small(frozen_stages=frozen_stages)
    for mode in (True, False, True):
        assert backbone.train(mode) is backbone
        assert backbone.training is mode
    stages = (
        list(backbone.stages)
        if hasattr(backbone, "stages")
        else [getattr(backbone, name) for name in backbone.res_layers]
    )
    frozen = [p for s in stages[: max(frozen_stages, 0)] for p in s.parameters()]
    live = [p for s in stages[max(frozen_stages, 0) :] for p in s.parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert all(p.requires_grad for p in live)
    in_stages = {id(p) for p in [*frozen, *live]}
    stem = [p for p in backbone.parameters() if id(p) not in in_stages]
    assert all(p.requires_grad == (frozen_stages < 0) for p in stem)
    norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    assert all(n.training == n.weight.requires_grad for n in norms)


def test_norm_eval_reaches_every_batch_norm_and_sync_batch_norm(case):
    for norm in ("BN", "SyncBN"):
        backbone = case.build_small(norm_eval=True, norm_cfg=dict(type=norm)).train()
        norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
        assert len(norms) > 10
        assert not any(n.training for n in norms)


def test_channels_last_gives_the_same(case, device):
    torch.manual_seed(0)
    backbone = case.build_small().to(device, torch.double).eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.double, device=device)
    with torch.no_grad():
        expected = backbone(x)
        backbone.to(memory_format=torch.channels_last)
        got = backbone(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected)


def test_folded_batch_norms_compute_the_same(case, draw_norms):
    torch.manual_seed(0)
    backbone = case.build_small().double()
    draw_norms(backbone)
    x = torch.randn(2, 3, 64, 96, dtype=torch.double)
    with_statistics(backbone, x)
    with torch.no_grad():
        folded = fold_bn(backbone)
        assert not any(isinstance(m, _BatchNorm) for m in folded.modules())
        torch.testing.assert_close(folded(x), backbone(x))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (DyResNet, dict(depth=18, out_indices=(99,)), "out_indices=99 is not one of 0"),
        (DyShuffleNetV2, dict(out_indices=(99,)), "out_indices=99 is not one of 0, 1"),
        (DyShuffleNetV2, dict(out_indices=()), "out_indices is empty"),
        (DyResNet, dict(depth=18, frozen_stages=99), "=99 is not one of -1, 0, 1"),
        (DyShuffleNetV2, dict(frozen_stages=99), "=99 is not one of -1, 0, 1"),
        (DyShuffleNetV2, dict(widen_factor=0.75), "0.75 is not one of 0.5, 1.0"),
        (DyMobileNetV2, dict(strides=(1, 2)), r"strides=\(1, 2\) must be 7 positive"),
        (DyMobileNetV2, dict(dilations=(0,) * 7), r"dilations=\(0, .* 7 positive numb"),
        (DyMobileNetV3, dict(arch="tiny"), "arch='tiny' is not one of small, large"),
        (DyShuffleNetV2, dict(init_cfg={}, pretrained="x"), "both name initial"),
    ],
)
def test_options_out_of_range_are_named(network, options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        network(**options)


@pytest.mark.parametrize("scope", ("mmengine", "mmseg"))
def test_backbones_are_found_from_the_root_registry_and_its_children(scope):
    with MODELS.switch_scope_and_registry(scope) as registry:
        for network in NETWORKS:
            assert registry.get(network.__name__) is network


@pytest.mark.recent_torch
def test_export_round_trip(graph_case, tmp_path):
    torch.manual_seed(0)
    backbone = graph_case.build_small().eval()
    x = torch.randn(1, 3, 64, 96)
    size = {2: 32 * torch.export.Dim("h", min=2, max=64),
            3: 32 * torch.export.Dim("w", min=2, max=64)}  # fmt: skip
    program = torch.export.export(backbone, (x,), dynamic_shapes=(size,))
    torch.export.save(program, tmp_path / "program.pt2")
    restored = torch.export.load(tmp_path / "program.pt2").module()
    other_size = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for image in (x, other_size):
            torch.testing.assert_close(restored(image), backbone(image))


@pytest.mark.recent_torch
def test_compiles_without_graph_breaks(graph_case, device):
    torch.manual_seed(0)
    backbone = graph_case.build_small().to(device).eval()
    x = torch.randn(2, 3, 64, 64, device=device)
    torch.compiler.reset()
    backend = "aot_eager" if device == "cpu" else "inductor"  # which takes a minute
    compiled = torch.compile(backbone, backend=backend, fullgraph=True)
    with torch.no_grad():
        expected = backbone(x)
        torch.testing.assert_close(compiled(x), expected, rtol=1e-3, atol=1e-3)
