"""Check that a checkpoint's optimizer and schedules match the config."""

from itertools import zip_longest
from types import NoneType

from mmengine.runner import Runner

# Entries of the states that training changes, or that AdamW sets itself.
PROGRESS = {
    "params", "last_step", "base_values", "best", "num_bad_epochs",
    "cooldown_counter", "decoupled_weight_decay",
}  # fmt: skip
REMEDY = (
    "To use the config's settings, start from its weights: --cfg-options "
    "load_from=FILE resume=False, without --resume"
)


def check_settings(runner: Runner, checkpoint: dict) -> None:
    """Compare the config's optimizer and schedules with those to be resumed.

    Raises:
        ValueError: The checkpoint has no optimizer, as ``best_*.pth``, or one of
            another type. Other differences are warnings.
    """
    if missing := {"meta", "message_hub", "optimizer"} - checkpoint.keys():
        raise ValueError(
            f"the checkpoint has no {' and no '.join(sorted(missing))}: a training "
            f"cannot be resumed from weights alone. {REMEDY}"
        )
    optimizer = getattr(runner.optim_wrapper, "optimizer", None)
    saved = checkpoint["optimizer"].get("param_groups", [])
    if optimizer:
        # Newer versions of torch add settings that are None, or switches.
        off = (bool, NoneType)
        wanted = {k for k, v in optimizer.defaults.items() if not isinstance(v, off)}
        if missing := wanted.difference(*saved):
            raise ValueError(
                f"the checkpoint's optimizer is not {type(optimizer).__name__}, since "
                f"it has no {', '.join(sorted(missing))}. {REMEDY}"
            )
    pairs = [*zip(getattr(optimizer, "param_groups", ()), saved, strict=False)]
    schedules = checkpoint.get("param_schedulers")  # without any, the config's are used
    if isinstance(runner.param_schedulers, list) and schedules is not None:
        now = [schedule.state_dict() for schedule in runner.param_schedulers]
        pairs += zip_longest(now, schedules, fillvalue={})
    kept = dict.fromkeys(
        f"{key.removeprefix('initial_')} is {old.get(key)} (config: {new.get(key)})"
        for new, old in pairs
        for key in sorted(new.keys() | old.keys())
        if key not in PROGRESS and key[0] != "_" and f"initial_{key}" not in new
        if (new.get(key) or None) != (old.get(key) or None)
    )
    if kept:
        settings = "; ".join([*kept][:9])
        runner.logger.warning(f"Resuming keeps the checkpoint's: {settings}. {REMEDY}")
