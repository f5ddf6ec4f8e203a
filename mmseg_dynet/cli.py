"""What the command-line tools share: arguments, and preparing a config for a run."""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import DATASETS, init_default_scope

from .apis import inner_datasets, load_config
from .engine.checkpoint import find_newest, use_safe_loading
from .engine.launch import prepare_launch

MMENGINE_HOOKS = (
    "runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint",
)  # fmt: skip


def config_parser(description: str) -> ArgumentParser:
    """A parser with ``--cfg-options``, which overrides values of a config."""
    parser = ArgumentParser(description=description)
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override values of the config, e.g. train_cfg.max_iters=100 or "
        'model.backbone.out_indices="(0,3)" (no spaces inside a value)',
    )
    return parser


def at_least(minimum: int) -> Callable[[str], int]:
    """The ``type`` of an integer argument with a lower bound."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise ArgumentTypeError(f"must be at least {minimum}, got {value}")
        return value

    return integer


def add_launch_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of a tool that starts a Runner."""
    parser.add_argument(
        "--work-dir",
        help="folder of logs and checkpoints (default: the config's, or "
        "work_dirs/CONFIG_NAME)",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="the launcher that started this process (default: none, a single process)",
    )
    # torch.distributed.launch passes it; torchrun sets the variable instead.
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by the launcher"
    )


def default_work_dir(cfg: Config, config_path: str) -> str:
    """Where a config's logs and checkpoints go by default."""
    return cfg.get("work_dir") or str(Path("work_dirs") / Path(config_path).stem)


def load_run_config(args: Namespace) -> Config:
    """Read the config of a tool that starts a Runner, and prepare the process for it.

    From here on, MMEngine reads checkpoint files by ``load_from_file``. Arguments are
    ``config`` and those of :func:`config_parser` and :func:`add_launch_arguments`.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    use_safe_loading()
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or default_work_dir(cfg, args.config)
    add_setup_check(cfg)
    if args.launcher != "none":
        prepare_launch(cfg)
    return cfg


def add_setup_check(cfg: Config) -> None:
    """Add a CheckSetupHook to a config without one, and remove hooks that are None."""
    hooks = dict(cfg.get("default_hooks") or {})
    options = hooks.get("check_setup", {})
    is_given = "CheckSetupHook" in str([hooks, cfg.get("custom_hooks")])
    if options is not None and not is_given:
        # Before custom hooks: EMAHook, say, takes what it needs from a checkpoint.
        hooks["check_setup"] = {"type": "CheckSetupHook", **options}
    cfg.default_hooks = {n: h for n, h in hooks.items() if h or n in MMENGINE_HOOKS}


def check_data(cfg: Config, *splits: str) -> None:
    """Check before the model is built that the data of splits (train, ...) is there.

    Builds each data set a second time, without reading an image.

    Raises:
        ValueError: A data set cannot be built, such as for missing files, or is empty.
    """
    init_default_scope(cfg.get("default_scope") or "mmseg")
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if not isinstance(loader, dict):
            continue
        key = f"{split}_dataloader.dataset"
        try:
            dataset = DATASETS.build(loader["dataset"])
            if hasattr(dataset, "__len__") and not len(dataset):
                raise ValueError("it has no samples")
        except (AssertionError, FileNotFoundError, ValueError) as error:
            # Assertions of the host often have no message, and NumPy's is obscure.
            problem = str(error) or "files are missing"
            problem = "it has no samples" if "one array" in problem else problem
            inner = inner_datasets(loader["dataset"], key)
            roots = " ".join(f"{inner_key}.data_root=DIR" for inner_key, _ in inner)
            raise ValueError(
                f"{key}: {problem}. If the data is in another folder, set it with "
                f"--cfg-options {roots}; if files end otherwise, set img_suffix and "
                "seg_map_suffix there"
            ) from error


def resume(cfg: Config, cfg_options: dict | None = None) -> None:
    """Resume from the newest good checkpoint in the work dir, if there is one.

    Otherwise training starts from the weights of the config's ``load_from``, if any. A
    ``load_from`` on the command line, or beside ``resume = True`` in the config, is the
    checkpoint to resume from. ``cfg`` already includes ``cfg_options``.

    Raises:
        FileNotFoundError, ValueError: As of :func:`.engine.checkpoint.find_newest`.
    """
    if isinstance(cfg.get("resume"), str):  # as FlexibleRunner takes it
        cfg.load_from = cfg.resume
    newest = cfg.get("load_from")
    named = cfg.get("resume") or "load_from" in (cfg_options or {})
    if not (newest and named):
        newest = find_newest(cfg.work_dir)
    cfg.resume = newest is not None
    if cfg.resume:
        # Left out if MMEngine finds it by itself: otherwise the dumped config, run
        # again, would resume from this old checkpoint.
        pointer = Path(cfg.work_dir, "last_checkpoint")
        latest = pointer.read_text("utf-8", "replace") if pointer.is_file() else ""
        is_latest = Path(latest.strip()).resolve() == Path(newest).resolve()
        cfg.load_from = None if is_latest else newest
    else:
        print(f"no checkpoint in {cfg.work_dir}: start at iteration 0", file=sys.stderr)
