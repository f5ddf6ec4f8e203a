"""Whether the optimizer and schedules of a checkpoint are those of the config."""

from itertools import zip_longest

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

# What training changes in the states of optimizers and schedules.
PROGRESS = {"params", "last_step", "base_values", "best", "num_bad_epochs"}
REMEDY = (
    "To use the config's, start from its weights: --cfg-options load_from=FILE without "
    "--resume"
)


def check_optimizer(optim_wrapper: OptimWrapper | None) -> None:
    """Check that the optimizer has not resumed the settings of another one.

    Raises:
        ValueError: It lacks some of its own; its first step would be a KeyError.
    """
    optimizer = getattr(optim_wrapper, "optimizer", None)
    groups = getattr(optimizer, "param_groups", [])
    missing = {key for group in groups for key in optimizer.defaults.keys() - group}
    if missing:
        raise ValueError(
            f"the checkpoint is of another optimizer than {type(optimizer).__name__}, "
            f"without {', '.join(sorted(missing))}. {REMEDY}"
        )


def warn_of_kept_settings(runner: Runner, checkpoint: dict) -> None:
    """Compare the config's optimizer and schedules with those to be resumed."""
    groups = getattr(runner.optim_wrapper, "param_groups", [])
    saved = checkpoint.get("optimizer", {}).get("param_groups", [])
    pairs = [*zip(groups, saved, strict=False)]
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
