"""Make a resumed training the one that was not interrupted."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

KEY = "random_state"


class ReplayHook(Hook):
    """Keep PyTorch's random numbers in checkpoints, and validation from using them.

    Dropout draws from them while it trains. MMEngine seeds them at each start, so a
    resumed run would drop other values. The samples are the matter of
    :mod:`replay.sampling`.

    Of several processes, the state of the first is kept, for all: they start alike
    unless ``randomness.diff_rank_seed`` is set.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Tensor] | None = None
        self._training: dict[str, Tensor] | None = None  # in validation

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state, which only a resumed training reads.

        It is that of training, too, if validation has found a new best.
        """
        checkpoint[KEY] = self._training or random_state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the state of a checkpoint that training resumes from."""
        self._resumed = checkpoint.get(KEY)

    def before_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Go on with that state, once the loader has taken its first numbers."""
        if runner.iter and self._resumed is not None:
            restore(self._resumed)
        self._resumed = None

    def before_val(self, runner: Runner) -> None:
        """Set the state aside."""
        self._training = random_state()

    def after_val(self, runner: Runner) -> None:
        """Go on as if there had been no validation."""
        restore(self._training)
        self._training = None


def random_state() -> dict[str, Tensor]:
    """The states of the generators of the CPU and of the GPU in use."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(state: dict[str, Tensor]) -> None:
    """Set the generators that there are; states may have been moved to a GPU."""
    torch.set_rng_state(state["cpu"].cpu())
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu())
