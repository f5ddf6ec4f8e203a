"""Random numbers of the training process: dropout, for example."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

KEY = "random_state"


@HOOKS.register_module()
class ReplayHook(Hook):
    """Keep the state of PyTorch's generators in checkpoints and across validation.

    MMEngine seeds them at each start, so resumed training would drop other values. Of
    several processes, the state of the first is kept for all: they start alike unless
    ``randomness.diff_rank_seed`` is set.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Tensor] | None = None
        self._before_val: dict[str, Tensor] | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state; that of training if validation has found a new best."""
        checkpoint[KEY] = self._before_val or random_state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the state of the checkpoint until training resumes."""
        self._resumed = checkpoint.get(KEY)

    def before_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Restore it now: starting the loader has used the generator."""
        if runner.iter and self._resumed is not None:
            restore(self._resumed)
        self._resumed = None

    def before_val(self, runner: Runner) -> None:
        """Set the state of training aside."""
        self._before_val = random_state()

    def after_val(self, runner: Runner) -> None:
        """Restore the state of training."""
        restore(self._before_val)
        self._before_val = None


def random_state() -> dict[str, Tensor]:
    """Return the state of the CPU's generator, and of the current GPU's."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(state: dict[str, Tensor]) -> None:
    """Set the generators; a checkpoint may have been loaded to a GPU."""
    torch.set_rng_state(state["cpu"].cpu())
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu())
