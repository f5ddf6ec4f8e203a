"""Draws are numbered and seeded; resumed training repeats the interrupted one."""

import pickle
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset
from mmengine.registry import RUNNERS
from replay import ReplayableSampler, SeededDataset, SeededIndex, sampling

ROOT = Path(__file__).parents[3]
SIZE = 5


def take(sampler: ReplayableSampler, number: int) -> list[SeededIndex]:
    return list(islice(sampler, number))


def test_each_pass_is_another_permutation():
    found = take(ReplayableSampler(range(SIZE), seed=3), 4 * SIZE)
    passes = [[d.index for d in found[i : i + SIZE]] for i in range(0, 4 * SIZE, SIZE)]
    assert all(sorted(indices) == [*range(SIZE)] for indices in passes)
    assert len({tuple(indices) for indices in passes}) > 1
    assert [d[1:] for d in found] == [(3, number) for number in range(4 * SIZE)]
    assert take(ReplayableSampler(range(SIZE), seed=4), 4 * SIZE) != found


@pytest.mark.parametrize("skipped", [0, 1, SIZE, 2 * SIZE + 1])
def test_skipped_samples_are_those_at_the_start(skipped):
    sampler = ReplayableSampler(range(SIZE), seed=0)
    expected = take(sampler, 20)[skipped:]
    sampler.skip(skipped)
    assert take(sampler, 20 - skipped) == expected


def test_processes_share_the_samples(monkeypatch):
    whole = take(ReplayableSampler(range(SIZE), seed=0), 18)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sampling, "get_dist_info", lambda rank=rank: (rank, 3))
        sampler = ReplayableSampler(range(SIZE), seed=0)
        sampler.skip(2)
        shares.append(take(sampler, 4))
    assert [d for step in zip(*shares, strict=True) for d in step] == whole[6:]


class RandomNumbers(BaseDataset):
    """Each sample is its index and a number of each generator."""

    METAINFO: dict = dict(classes=("one", "other"))  # noqa: RUF012  the host's

    def load_data_list(self) -> list[dict]:
        return [dict(name=i) for i in range(SIZE)]

    def get_cat_ids(self, idx: int) -> list[int]:
        return [int(idx == 0)]

    def prepare_data(self, idx: int) -> tuple:
        return idx, random.random(), np.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: data,
        lambda data: ConcatDataset([data, data]),
        lambda data: ClassBalancedDataset(data, oversample_thr=0.5),
    ],
    ids=["plain", "ConcatDataset", "ClassBalancedDataset"],
)
def test_random_numbers_are_those_of_the_sample(wrap):
    dataset = SeededDataset(wrap(RandomNumbers()))
    state = torch.get_rng_state()
    first = dataset[SeededIndex(3, 0, 7)]
    assert dataset[pickle.loads(pickle.dumps(SeededIndex(3, 0, 7)))] == first
    others = dataset[SeededIndex(3, 0, 8)], dataset[SeededIndex(3, 1, 7)]
    assert len({first, *others}) == 3 and first[0] == others[0][0] == others[1][0]
    assert torch.equal(torch.get_rng_state(), state)


def test_another_sampler_is_refused():
    with pytest.raises(TypeError, match="indices of ReplayableSampler, got 3"):
        SeededDataset(RandomNumbers())[3]


def train(folder: Path, data: Path, iterations: int, seed: int | None) -> dict:
    """Train, or resume without a seed, and read the last checkpoint."""
    config = folder / "config.py"
    config.write_text(
        f'_base_ = ["{ROOT}/configs/dynet/'
        'dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py",\n'
        f'    "{ROOT}/projects/reproducible_training/config.py"]\n'
        "model = dict(data_preprocessor=dict(size=(64, 64)))\n"
    )
    cfg = Config.fromfile(config)
    cfg.randomness.seed, cfg.resume = seed, seed is None
    cfg.work_dir = str(folder)
    cfg.visualizer.name = f"{folder.name} {iterations}"  # global by its name
    cfg.train_cfg.update(max_iters=iterations, val_interval=1)
    cfg.default_hooks = dict(
        checkpoint=dict(
            type="CheckpointHook", interval=1, by_epoch=False, save_best="mIoU"
        )
    )
    # The transforms choose the place of the crop, torch what drops out.
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform["type"] == "RandomCrop":
            transform["crop_size"] = (64, 64)
    cfg.train_dataloader.batch_size = 2
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(data)
        loader.update(num_workers=0, persistent_workers=False)
    RUNNERS.build(cfg).train()
    return torch.load(folder / f"iter_{iterations}.pth", weights_only=False)


def test_resumed_training_repeats_the_uninterrupted_one(tiny_cityscapes, tmp_path):
    folders = [tmp_path / "whole", tmp_path / "halves"]
    for folder in folders:
        folder.mkdir()
    whole = train(folders[0], tiny_cityscapes, 3, seed=3)
    first = train(folders[1], tiny_cityscapes, 1, seed=3)
    best = torch.load(folders[1] / "best_mIoU_iter_1.pth", weights_only=False)
    # It is saved in validation, whose loader uses the generator.
    assert torch.equal(best["random_state"]["cpu"], first["random_state"]["cpu"])

    # The seed is that of the checkpoint.
    resumed = train(folders[1], tiny_cityscapes, 3, seed=None)
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, resumed["state_dict"][name]), name
    assert torch.equal(whole["random_state"]["cpu"], resumed["random_state"]["cpu"])


def test_epochs_are_refused():
    config = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=2)))
    with pytest.raises(ValueError, match="must be IterBasedTrainLoop"):
        RUNNERS.get("ReplayRunner").from_cfg(config)
