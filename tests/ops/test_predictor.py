"""The predictor against its formula."""

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
