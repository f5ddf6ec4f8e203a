"""The predictor against its formula, and its errors."""

import pytest
import torch

from mmseg_dynet.ops import CoefficientPredictor


def test_two_layers_equal_the_formula():
    torch.manual_seed(0)
    predictor = CoefficientPredictor(8, (3, 5), num_kernels=2, hidden_channels=4)
    x = torch.randn(2, 8, 6, 7)
    pooled = torch.stack([image.flatten(1).mean(1) for image in x])
    hidden = (pooled @ predictor.hidden.weight.T + predictor.hidden.bias).clamp(min=0)
    logits = hidden @ predictor.logits.weight.T + predictor.logits.bias
    expected = 1 / (1 + torch.exp(-logits))

    first, second = predictor(x)
    # The first 3 * 2 values serve the first layer, channel by channel.
    torch.testing.assert_close(first, expected[:, :6].reshape(2, 3, 2))
    torch.testing.assert_close(second, expected[:, 6:].reshape(2, 5, 2))


def test_one_layer_without_hidden_channels():
    torch.manual_seed(0)
    predictor = CoefficientPredictor(8, (3,), num_kernels=6)
    x = torch.randn(2, 8, 1, 1)
    expected = predictor.logits(x.flatten(1)).sigmoid().reshape(2, 3, 6)
    (coeff,) = predictor(x)
    torch.testing.assert_close(coeff, expected)
    assert [name for name, _ in predictor.named_parameters()] == [
        "logits.weight",
        "logits.bias",
    ]


def test_trains_at_batch_size_one():
    predictor = CoefficientPredictor(8, (3,), hidden_channels=2).train()
    (coeff,) = predictor(torch.rand(1, 8, 5, 5))
    coeff.sum().backward()
    assert all(p.grad is not None for p in predictor.parameters())


@pytest.mark.parametrize("hidden_channels", (None, 2))
def test_an_input_on_another_device_is_named(hidden_channels):
    predictor = CoefficientPredictor(8, (3,), hidden_channels=hidden_channels)
    x = torch.ones(1, 8, 5, 5)
    with pytest.raises(ValueError, match="differ: x meta, predictor cpu; move them"):
        predictor(x.to("meta"))
    predictor.to("meta")
    with pytest.raises(ValueError, match="differ: x cpu, predictor meta; move them"):
        predictor(x)
    assert predictor(x.to("meta"))[0].shape == (1, 3, 6)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(in_channels=0, out_channels=(4,)),
        dict(in_channels=8, out_channels=()),
        dict(in_channels=8, out_channels=(4, 0)),
        dict(in_channels=8, out_channels=(4,), num_kernels=0),
        dict(in_channels=8, out_channels=(4,), hidden_channels=0),
    ],
)
def test_widths_below_one_are_refused(arguments):
    with pytest.raises(ValueError, match="must be at least 1, got in_channels="):
        CoefficientPredictor(**arguments)
