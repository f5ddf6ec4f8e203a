"""Training samples that depend on nothing but the seed and their number.

MMEngine's workers take augmentations from one stream of random numbers per worker,
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


class SeededIndex(NamedTuple):
    """The index of an image, and what the random numbers of its transforms follow from.

    Attributes:
        index: Of the image in the data set.
        seed: Of the training.
        number: Of the sample, over all processes, from the start of the training.
    """

    index: int
    seed: int
    number: int


@DATA_SAMPLERS.register_module()
class ReplayableSampler(Sampler[SeededIndex]):
    """MMEngine's InfiniteSampler, except that it numbers its samples.

    Each pass over the data set is another permutation. Process r of n takes the samples
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
        """Start after the first ``num_samples`` samples of this process."""
        self.start = num_samples

    def __iter__(self) -> Iterator[SeededIndex]:
        current, order = None, None
        for number in count(self.start * self.world_size + self.rank, self.world_size):
            epoch, position = divmod(number, self.size)
            if epoch != current:
                generator = np.random.default_rng((self.seed, epoch))
                current, order = epoch, generator.permutation(self.size)
            yield SeededIndex(int(order[position]), self.seed, number)

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: epochs follow from the numbers of the samples."""


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A data set, of any kind, whose transforms are seeded for each sample.

    It is the outermost wrapper: others, such as ClassBalancedDataset, map an index to
    another one and would lose the number of the sample.

    Args:
        dataset: A data set or its config.
    """

    def __init__(self, dataset: Dataset | dict) -> None:
        built = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        built.full_init()
        self.dataset, self.metainfo = built, built.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: SeededIndex) -> dict:
        """Load a sample with the random numbers that follow from its number.

        Raises:
            TypeError: The index is not a SeededIndex.
        """
        if not isinstance(item, SeededIndex):
            raise TypeError(
                f"SeededDataset needs the indices of ReplayableSampler, got {item!r}"
            )
        words = np.random.SeedSequence((item.seed, item.number)).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        # Without workers, this is the generator that dropout uses.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(words[2]))
            return self.dataset[item.index]
