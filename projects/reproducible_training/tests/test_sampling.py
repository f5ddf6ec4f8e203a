"""Draws are numbered, and each has random numbers of its own."""

import pickle
import random
from itertools import islice

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATA_SAMPLERS, TRANSFORMS
from replay import sampling as replay
from replay.sampling import Draw, ReplayableSampler

SIZE = 5


def draws(sampler: ReplayableSampler, number: int) -> list[Draw]:
    return list(islice(sampler, number))


def test_each_pass_is_another_permutation():
    sampler = DATA_SAMPLERS.build(
        dict(type="ReplayableSampler", dataset=range(SIZE), seed=3)
    )
    indices = draws(sampler, 4 * SIZE)
    passes = [tuple(indices[i : i + SIZE]) for i in range(0, 4 * SIZE, SIZE)]
    assert all(sorted(one) == [*range(SIZE)] for one in passes)
    assert len(set(passes)) > 1
    assert [d.entropy for d in indices] == [(3, n) for n in range(4 * SIZE)]
    assert draws(sampler, 4 * SIZE) == indices
    assert draws(ReplayableSampler(range(SIZE), seed=4), 4 * SIZE) != indices


@pytest.mark.parametrize("skipped", [0, 1, SIZE, 2 * SIZE + 1])
def test_skipping_goes_on_where_it_says(skipped):
    sampler = ReplayableSampler(range(SIZE), seed=0)
    expected = draws(sampler, 20)[skipped:]
    sampler.skip(skipped)
    found = draws(sampler, 20 - skipped)
    assert found == expected
    assert [d.entropy for d in found] == [d.entropy for d in expected]


def test_processes_share_the_draws(monkeypatch):
    whole = draws(ReplayableSampler(range(SIZE), seed=0), 18)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(replay, "get_dist_info", lambda rank=rank: (rank, 3))
        sampler = ReplayableSampler(range(SIZE), seed=0)
        sampler.skip(2)
        shares.append(draws(sampler, 4))
    together = [draw for step in zip(*shares, strict=True) for draw in step]
    assert [d.entropy for d in together] == [d.entropy for d in whole[6:]]
    assert together == whole[6:]


def test_a_draw_reaches_a_worker_as_it_is():
    draw = pickle.loads(pickle.dumps(Draw(4, (1, 9))))
    assert (draw, draw.entropy) == (4, (1, 9))


def numbers_after(sample_idx: int) -> tuple:
    transform = TRANSFORMS.build(dict(type="SeedAugmentation"))
    results = dict(sample_idx=sample_idx)
    assert transform(results) == results
    return random.random(), *np.random.random(2)


def test_random_numbers_are_those_of_the_draw():
    first = numbers_after(Draw(2, (0, 7)))
    random.seed(1), np.random.seed(1)
    assert numbers_after(Draw(2, (0, 7))) == first
    assert (
        len({first, numbers_after(Draw(2, (0, 8))), numbers_after(Draw(2, (1, 7)))})
        == 3
    )


def test_a_replacement_goes_on_with_the_numbers_of_the_sample_it_replaces():
    np.random.seed(5), random.seed(5)
    expected = random.random(), *np.random.random(2)
    np.random.seed(5), random.seed(5)
    assert numbers_after(2) == expected


def test_a_draw_goes_through_wrappers_of_data_sets():
    """RepeatDataset and ConcatDataset compute the index of the sample from it."""

    class Samples(BaseDataset):
        def load_data_list(self) -> list[dict]:
            return [dict(name=i) for i in range(SIZE)]

    def wrapped_draw(dataset) -> Draw:
        return dataset[Draw(SIZE + 2, (0, 7))]["sample_idx"]

    for wrapped in (
        RepeatDataset(Samples(), times=2),
        ConcatDataset([Samples(), Samples()]),
    ):
        draw = wrapped_draw(wrapped)
        assert (draw, draw.entropy) == (2, (0, 7))
