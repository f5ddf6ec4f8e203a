"""Every ImageNet config builds the network of its name and has the paper's recipe."""

import math
from pathlib import Path

import mmpretrain.models  # noqa: F401  these tests are worth nothing without it
import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.registry import PARAM_SCHEDULERS
from mmpretrain.structures import DataSample

from mmseg_dynet.apis import build_model, load_config

PATHS = sorted(Path(__file__).parents[2].glob("configs/imagenet/*.py"))
STATIC_TWINS = {
    "dy-mobile": "mobilenet-v2",
    "dy-mobilenet-v3-large": "mobilenet-v3-large",
    "dy-mobilenet-v3-small": "mobilenet-v3-small",
    "dy-resnet18": "resnet18",
    "dy-resnet50": "resnet50",
    "dy-resnetv1c18": "resnetv1c18",
    "dy-resnetv1c50": "resnetv1c50",
    "dy-shuffle-1.5x": "shufflenet-v2-1.5x",
    "dy-shuffle-1x": "shufflenet-v2-1x",
}
# Counts of an independent implementation. (That of ShuffleNetV2 is a variant.)
PUBLISHED = ("mobilenet-v2", "mobilenet-v3-large", "mobilenet-v3-small", "resnet18",
             "resnet50")  # fmt: skip
each_config = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def config_of(network: str):
    (path,) = (p for p in PATHS if p.stem.split("_")[0] == network)
    return load_config(str(path))


def test_each_network_has_its_static_twin():
    networks = [path.stem.split("_")[0] for path in PATHS]
    assert networks == sorted([*STATIC_TWINS, *STATIC_TWINS.values()])
    assert len(networks) == 18
    for dynamic, static in STATIC_TWINS.items():
        dynamic, static = config_of(dynamic), config_of(static)
        for config in (dynamic, static):
            del config.model.backbone, config.model.head["in_channels"]
        assert dynamic.to_dict() == static.to_dict()


@each_config
def test_recipe_is_the_papers(path):
    config = load_config(str(path))
    _, batch, data = path.stem.split("_")
    devices, batch_size = map(int, batch.split("xb"))
    assert (devices * batch_size, data) == (2048, "in1k")
    assert config.train_dataloader.batch_size == batch_size
    assert config.auto_scale_lr.base_batch_size == 2048
    assert config.optim_wrapper.optimizer == dict(
        type="SGD", lr=0.8, momentum=0.9, weight_decay=5e-5
    )
    train, test = (
        [step.type for step in loader.dataset.pipeline[1:-1]]
        for loader in (config.train_dataloader, config.test_dataloader)
    )
    assert train == ["RandomResizedCrop", "RandomFlip"]
    assert test == ["ResizeEdge", "CenterCrop"]


@pytest.mark.parametrize("network, epochs", [("dy-resnet50", 100), ("dy-mobile", 300)])
def test_learning_rate_warms_up_to_the_papers_and_decays_as_a_cosine(network, epochs):
    config = config_of(network)
    assert config.train_cfg.max_epochs == epochs
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.optim_wrapper.optimizer.lr)
    steps = 10  # per epoch
    warm_up, cosine = (
        PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=optimizer, epoch_length=steps)
        )
        for scheduler in config.param_scheduler
    )
    rates = []  # of each step
    for _ in range(epochs):
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            warm_up.step()
        cosine.step()
    assert rates[0] == pytest.approx(0.8 / 4)
    assert rates[: 5 * steps] == sorted(rates[: 5 * steps])
    phases = [(epoch - 5) / (epochs - 5) for epoch in range(5, epochs)]
    expected = [0.8 * (1 + math.cos(math.pi * phase)) / 2 for phase in phases]
    assert rates[5 * steps :: steps] == pytest.approx(expected)


@each_config
def test_builds_runs_and_learns(path):
    torch.manual_seed(0)
    model = build_model(load_config(str(path)))
    images, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 7, 7, 999])
    samples = [DataSample().set_gt_label(label) for label in labels]
    with torch.no_grad():
        logits = model(images)
        loss = model(images, samples, mode="loss")["loss"]
    assert logits.shape == (4, 1000)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)

    model.train()
    model(images, samples, mode="loss")["loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("network", PUBLISHED)
def test_static_network_has_the_published_parameters(network):
    with torch.device("meta"):
        published = getattr(torchvision.models, network.replace("-", "_"))()
        ours = build_model(config_of(network))
    counts = [sum(p.numel() for p in m.parameters()) for m in (ours, published)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("width, parameters", [("1x", 2_279_760), ("1.5x", 3_507_720)])
def test_shufflenet_is_the_one_of_segmentation(width, parameters):
    """In mmpretrain's scope, the bare name would be that of another network."""
    model = build_model(config_of(f"shufflenet-v2-{width}"))
    assert type(model.backbone).__module__.startswith("mmseg_dynet.")
    assert sum(p.numel() for p in model.parameters()) == parameters
