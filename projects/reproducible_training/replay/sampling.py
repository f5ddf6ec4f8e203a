"""Training samples that depend on the seed and their number alone.

MMEngine's loaders draw augmentations from one stream of random numbers a worker, which
starts anew when training resumes: an interrupted run sees other crops than one that was
not, and a run with four workers others than one with two. Here each draw has its own
random numbers. In a config::

    train_pipeline = [dict(type="SeedAugmentation"), ...]
    train_dataloader = dict(sampler=dict(type="ReplayableSampler"), ...)

With :class:`mmseg_dynet.engine.ReplayHook`, a resumed run is the one that was not
interrupted, bit by bit where the arithmetic is deterministic (on a CPU).
"""

import random
from collections.abc import Iterator, Sized
from itertools import count

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler


class Draw(int):
    """The index of a sample that knows which draw of the whole training it is.

    Attributes:
        entropy: The sampler's seed and the number of the draw, from which its random
            numbers are made.
    """

    entropy: tuple[int, int]

    def __new__(cls, index: int, entropy: tuple[int, int]) -> "Draw":
        """Make the index."""
        draw = super().__new__(cls, index)
        draw.entropy = entropy
        return draw

    def __mod__(self, other: int) -> "Draw":
        """The same draw: RepeatDataset finds its sample so."""
        return Draw(int(self) % other, self.entropy)

    def __sub__(self, other: int) -> "Draw":
        """The same draw: ConcatDataset finds its sample so."""
        return Draw(int(self) - other, self.entropy)

    def __reduce__(self) -> tuple:
        return Draw, (int(self), self.entropy)


class ReplayableSampler(Sampler[int]):
    """Endless shuffled indices, as MMEngine's InfiniteSampler, that number themselves.

    Each pass over the data set is a permutation of its own; of n processes, each takes
    every n-th index.

    Args:
        dataset: What to draw from.
        seed: The same in all processes. None lets them agree on a random one. The
            runner gives its own.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def skip(self, num_samples: int) -> None:
        """Begin after the first ``num_samples`` indices of this process."""
        self.start = num_samples

    def __iter__(self) -> Iterator[Draw]:
        pass_, order = None, None
        for number in count(self.start * self.world_size + self.rank, self.world_size):
            if number // self.size != pass_:
                pass_ = number // self.size
                generator = np.random.default_rng((self.seed, pass_))
                order = generator.permutation(self.size)
            yield Draw(order[number % self.size], (self.seed, number))

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Not needed: passes are counted by the draws."""


class SeedAugmentation(BaseTransform):
    """Give the transforms that follow the random numbers of the draw.

    Seeds Python's and NumPy's global generators, which the transforms of MMCV and
    MMSegmentation draw from. The first transform of a training pipeline.
    """

    def transform(self, results: dict) -> dict:
        """Seed, and hand on the sample's description as it is."""
        draw = results["sample_idx"]
        # A sample that replaces one without a usable crop goes on with its numbers.
        if isinstance(draw, Draw):
            words = np.random.SeedSequence(draw.entropy).generate_state(2)
            random.seed(int(words[0]))
            np.random.seed(words[1])
        return results
