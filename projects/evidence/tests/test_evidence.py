"""The study's arms, its splits and its statistics."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from analyze import read, variants_table
from constant import ConstantCoefficientsHook
from diagnose import fixed
from evaluation import mean_iou
from intervals import over_photographs, paired, pooled
from mmengine.config import Config
from scipy.stats import ttest_rel
from torch import Tensor, nn
from train import ARMS, DATASETS, FOLDER, config_path

from mmseg_dynet import dynamize
from mmseg_dynet.analysis.coefficients import CoefficientRecorder
from mmseg_dynet.files import write_json
from mmseg_dynet.models.dynamize import to_static


def test_paired_interval_is_that_of_a_t_test():
    ours, theirs = [57.2, 55.8, 58.0, 56.1], [54.9, 55.6, 54.5, 55.0]
    expected = ttest_rel(ours, theirs).confidence_interval(0.95)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert paired(differences) == pytest.approx(tuple(expected))


def test_pooled_interval_by_hand():
    # Means 2 and 4, variances 2 and 4 with 1 and 2 degrees of freedom.
    half = 3.182446 * math.sqrt(10 / 3 * (1 / 2 + 1 / 3)) / 2
    assert pooled([[1, 3], [2, 4, 6]]) == pytest.approx((3 - half, 3 + half))


def test_interval_over_photographs_by_hand():
    # Two collections of one class: IoU 1 and 1/2 against 1/2 and 1/2.
    ours = np.array([[[4], [4], [4]], [[2], [4], [4]]])
    theirs = np.array([[[2], [4], [4]], [[2], [4], [4]]])
    assert over_photographs(ours[None], theirs[None]) == (0, 50)
    # Two seeds, the second without a difference: none is drawn, or one, or both.
    both = np.stack([ours, theirs]), np.stack([theirs, theirs])
    low, high = over_photographs(*both)
    assert (low, high) == (0, 50)
    same = [a[:, :1] for a in both]  # the first collection alone
    assert over_photographs(*same) == (0, 50)


def test_a_variant_is_chosen_by_seed_0_and_judged_by_the_others():
    scores = {"dynamic": [50, 51, 52], "control": [49, 49, 49], "softmax": [48, 53, 54]}
    arms = {
        arm: {seed: {"mIoU": miou} for seed, miou in enumerate(found)}
        for arm, found in scores.items()
    }
    row = "| softmax | -2.00 | 2 | +2.00 | +2.00 to +2.00 | +4.50 | -1.85 to +10.85 |"
    assert row in variants_table(arms)


def test_mean_iou_leaves_out_classes_without_labels():
    areas = [torch.tensor([[2, 0, 0], [4, 1, 2], [3, 1, 0]])] * 2
    assert mean_iou(areas) == 25


def test_a_run_of_two_learning_rates_is_not_mixed(tmp_path):
    run = {"network": "n", "dataset": "d", "arm": "control", "seed": 0}
    for rate in (0.1, 0.2):
        write_json(tmp_path / f"control_lr{rate}_seed0.json", run | {"lr": rate})
    assert set(read(tmp_path, "lr")["n", "d"]["control"]) == {0.1, 0.2}
    with pytest.raises(ValueError, match=r"lr0\.2_seed0\.json holds the same run"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("network", "dataset"),
    [(network, dataset) for network in ARMS for dataset in DATASETS],
)
def test_arms_differ_in_their_network_and_learning_rate_alone(network, dataset):
    recipes = []
    paths = [config_path(network, dataset, arm) for arm in ARMS[network]]
    for path in filter(Path.exists, paths):
        cfg = Config.fromfile(path).to_dict()
        model = cfg.pop("model")
        cfg["optim_wrapper"]["optimizer"].pop("lr")
        cfg["optim_wrapper"].pop("paramwise_cfg", None)  # of the arm predictor-lr
        cfg["default_hooks"].pop("temperature", None)  # of the arm softmax
        cfg.pop("custom_imports")  # the arm constant has a hook of its own
        hook = dict(type="ConstantCoefficientsHook")
        cfg["custom_hooks"] = [h for h in cfg["custom_hooks"] if h != hook]
        loss = model["decode_head"]["loss_decode"]
        recipes.append((cfg, loss, model["data_preprocessor"]))
    assert len(recipes) >= 3
    assert all(recipe == recipes[0] for recipe in recipes)


def test_splits_share_no_collection():
    train, val = (
        (FOLDER / f"splits/labelmefacade_{split}.txt").read_text().split()
        for split in ("train", "val")
    )
    assert (len(set(train)), len(set(val))) == (700, 245)
    collections = [{name.split("__")[0] for name in names} for names in (train, val)]
    assert not set.intersection(*collections)


class Network(nn.Sequential):
    """Two dynamic convolutions with one predictor."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 1),
            nn.ModuleList([nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3)]),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = self[1]
        return second(first(self[0](x)).relu())


def test_constant_coefficients_learn_but_ignore_the_image():
    torch.manual_seed(0)
    model = dynamize(Network(), include="1", input_shape=(1, 3, 8, 8))
    ConstantCoefficientsHook().before_train(SimpleNamespace(model=model))
    plain = dynamize(Network(), include="1", input_shape=(1, 3, 8, 8))
    plain.load_state_dict(model.state_dict())
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(model(x), plain(x))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.05)
    means = []
    for _ in range(2):
        with CoefficientRecorder(model) as recorder:
            model(torch.randn(5, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        summaries = recorder.summarize().values()
        assert all(s.between_image_std < 1e-6 for s in summaries)  # rounding
        means.append([s.mean for s in summaries])
    assert means[0] != pytest.approx(means[1], abs=0.01)


def test_fixed_coefficients_make_a_static_network():
    torch.manual_seed(0)
    model = dynamize(Network(), include="1", input_shape=(1, 3, 8, 8)).eval()
    with torch.no_grad(), CoefficientRecorder(model) as recorder:
        model(torch.randn(5, 3, 8, 8))
    static = to_static(model, recorder.means())
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        with fixed(model, recorder.means()):
            torch.testing.assert_close(model(x), static(x))
        assert not torch.allclose(model(x), static(x))
