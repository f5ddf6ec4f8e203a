"""Give all arms of a seed the same crops."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, set_random_seed


@HOOKS.register_module()
class SeedIterationHook(Hook):
    """Seed all generators by the run's seed and the iteration, around each iteration.

    Crops then do not depend on the network, whose dropout uses random numbers as well,
    and a run that was interrupted continues exactly (with OneDL's MMEngine, which skips
    batches without loading them). Needs ``num_workers=0``: a worker
    has generators of its own.
    """

    def before_train(self, runner: Runner) -> None:
        """Seed for loading the first batch, which may be that of a resumed run."""
        self._seed(runner, runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, *_, **__) -> None:
        """Seed for the network: a loader that starts has used a random number."""
        self._seed(runner, batch_idx)

    def after_train_iter(self, runner: Runner, batch_idx: int, *_, **__) -> None:
        """Seed for loading the next batch."""
        self._seed(runner, batch_idx + 1)

    def _seed(self, runner: Runner, iteration: int) -> None:
        seed = runner.seed * runner.max_iters + iteration
        set_random_seed(seed % 2**32)  # NumPy takes no larger one
