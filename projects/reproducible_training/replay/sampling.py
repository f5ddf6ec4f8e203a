"""Training samples that depend on nothing but the seed and their number.

MMEngine's workers draw augmentations from one stream of random numbers per worker,
which starts anew when training resumes. Here each sample of the training is numbered
by the sampler, and the data set seeds all generators with that number.
"""

import random
from collections.abc import Iterator, Sized
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset, Sampler


class Draw(NamedTuple):
    """What the sampler asks the data set for.

    Attributes:
        index: Of the image in the data set.
        seed: Of the training.
        number: Of the draw, counted over all processes from the start of the training.
    """

    index: int
    seed: int
    number: int


@DATA_SAMPLERS.register_module()
class ReplayableSampler(Sampler[Draw]):
    """MMEngine's InfiniteSampler, except that it numbers what it draws.

    Each pass over the data set is another permutation. Process r of n takes the draws
    r, r + n, r + 2n, ...

    Args:
        dataset: The data set, for its length.
        seed: The same in all processes. None: they agree on a random one. The runner
            passes its own.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def skip(self, num_samples: int) -> None:
        """Start after the first ``num_samples`` draws of this process."""
        self.start = num_samples

    def __iter__(self) -> Iterator[Draw]:
        current, order = None, None
        for number in count(self.start * self.world_size + self.rank, self.world_size):
            epoch, position = divmod(number, self.size)
            if epoch != current:
                generator = np.random.default_rng((self.seed, epoch))
                current, order = epoch, generator.permutation(self.size)
            yield Draw(int(order[position]), self.seed, number)

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: epochs follow from the numbers of the draws."""


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A data set, of any kind, whose transforms are seeded for each draw.

    It is the outermost wrapper: others, such as ClassBalancedDataset, map an index to
    another one and would lose the number of the draw.

    Args:
        dataset: A data set or its config.
    """

    def __init__(self, dataset: Dataset | dict) -> None:
        built = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        built.full_init()
        self.dataset, self.metainfo = built, built.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> dict:
        """Load the sample of a draw with the random numbers of its number.

        Raises:
            TypeError: The index is not a Draw.
        """
        if not isinstance(draw, Draw):
            raise TypeError(
                f"SeededDataset needs the draws of ReplayableSampler, got {draw!r}"
            )
        words = np.random.SeedSequence((draw.seed, draw.number)).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        # Without workers, this is the generator that dropout uses.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(words[2]))
            return self.dataset[draw.index]
