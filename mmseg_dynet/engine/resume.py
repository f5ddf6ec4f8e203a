"""Whether the optimizer and schedules of a checkpoint are those of the config."""

from itertools import zip_longest

from mmengine.runner import Runner
from torch.optim import Optimizer

# What training changes in the states of optimizers and schedules.
PROGRESS = {"params", "last_step", "base_values", "best", "num_bad_epochs"}
REMEDY = (
    "To use the config's, start from its weights: --cfg-options load_from=FILE without "
    "--resume"
)


def check_optimizer(optimizer: Optimizer, saved: list[dict]) -> None:
    """Check that parameter groups are those of an optimizer of the same type.

    Raises:
        ValueError: They lack some of its settings, without which torch fails.
    """
    # Versions of torch add settings that are off, or switches.
    wanted = {
        key
        for key, value in optimizer.defaults.items()
        if value is not None and not isinstance(value, bool)
    }
    missing = wanted.difference(*saved) if saved else ()
    if missing:
        raise ValueError(
            f"the checkpoint is of another optimizer than {type(optimizer).__name__}, "
            f"without {', '.join(sorted(missing))}. {REMEDY}"
        )


def check_settings(runner: Runner, checkpoint: dict) -> None:
    """Compare the config's optimizer and schedules with those to be resumed.

    Raises:
        ValueError: The optimizer is another one. Other differences are warnings.
    """
    pairs = []
    if optimizer := getattr(runner.optim_wrapper, "optimizer", None):
        saved = checkpoint.get("optimizer", {}).get("param_groups", [])
        check_optimizer(optimizer, saved)
        pairs += zip(optimizer.param_groups, saved, strict=False)
    if isinstance(runner.param_schedulers, list):
        now = [schedule.state_dict() for schedule in runner.param_schedulers]
        pairs += zip_longest(now, checkpoint.get("param_schedulers", []), fillvalue={})
    kept = {
        f"{key.removeprefix('initial_')} is {old.get(key)} (config: {new.get(key)})": 0
        for new, old in pairs
        for key in sorted(new.keys() | old.keys())
        if key not in PROGRESS and key[0] != "_" and f"initial_{key}" not in new
        # Another version of torch may add settings that are off.
        if (new.get(key) or None) != (old.get(key) or None)
    }
    if kept:
        settings = "; ".join([*kept][:9])
        runner.logger.warning(f"Resuming keeps the checkpoint's: {settings}. {REMEDY}")
