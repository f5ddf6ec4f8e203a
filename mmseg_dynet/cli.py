"""What the command-line tools share: config arguments, and what they mean.

The arguments are those of MMSegmentation's tools.
"""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import CheckpointLoader
from mmseg.registry import DATASETS

from .engine.checkpoint import find_newest, use_safe_loading
from .engine.launch import check_agreement, connect, launch_on_cpus, set_variables


def config_parser(description: str) -> ArgumentParser:
    """A parser with the argument that every tool has: overrides of config values.

    A config is Python and is executed when it is loaded: load those you trust.
    """
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
    """The ``type`` of an argument that is an integer, with a lower bound."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise ArgumentTypeError(f"must be at least {minimum}, got {value}")
        return value

    return integer


def add_launch_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of a tool that starts a Runner, on one machine or many."""
    parser.add_argument(
        "--work-dir",
        help="directory of logs and checkpoints (default: work_dirs/CONFIG_NAME)",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="what has started this process (default: none, a single process)",
    )
    # torch.distributed.launch passes it; torchrun sets the variable instead.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)


def load_config(path: str, cfg_options: dict | None = None) -> Config:
    """Read a config file and override its values.

    From here on, the process runs no code from checkpoint files.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no config file at {path}; configs of this project are under configs/, "
            "e.g. configs/dynet/dy-r50-d8_fcn_4xb2-80k_cityscapes-512x1024.py"
        )
    use_safe_loading()
    cfg = Config.fromfile(path)
    if cfg_options is not None:
        cfg.merge_from_dict(cfg_options)
    return cfg


def default_work_dir(config_path: str) -> str:
    """Where a config's logs and checkpoints go unless told otherwise."""
    return str(Path("work_dirs") / Path(config_path).stem)


def load_run_config(args: Namespace) -> Config:
    """Read the config of a tool that starts a Runner, launch arguments applied."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or default_work_dir(args.config)
    if args.launcher != "none":
        set_variables(args.launcher)
        if not torch.cuda.is_available():
            launch_on_cpus(cfg)
    return cfg


def check_data(cfg: Config, *splits: str) -> None:
    """Find out before the model is built whether the data is there.

    Args:
        cfg: A config.
        *splits: Those that the tool will load: train, val, test.

    Raises:
        FileNotFoundError: A folder is missing, or a data set is empty.
    """
    for split in splits:
        dataset = cfg.get(f"{split}_dataloader", {}).get("dataset", {})
        if "img_path" not in dataset.get("data_prefix", {}):
            continue  # a wrapper of data sets, or of another library
        built = DATASETS.build({**dataset, "pipeline": [], "lazy_init": True})
        try:
            empty = not built.load_data_list()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"the {split} set has no {error.filename}: prepare it with "
                f"tools/dataset_converters, or set {split}_dataloader.dataset.data_root"
            ) from error
        if empty:
            raise FileNotFoundError(
                f"the {split} set is empty: no *{built.img_suffix} in "
                f"{built.data_prefix['img_path']}"
            )


def resume(cfg: Config, cfg_options: dict | None = None) -> None:
    """Let training go on from the newest whole checkpoint in its work dir.

    Without one, training starts anew, from the weights of the config's ``load_from`` if
    it has one. A checkpoint that the *command line* names as ``load_from`` is resumed
    from in any case.

    A seed that the config leaves open is the one that the training began with: MMEngine
    resumes it, too, but only once it has drawn another and given that to the sampler.

    Args:
        cfg: The config, overridden.
        cfg_options: What has overridden it.

    Raises:
        ValueError: There are checkpoints, but none is whole; or of several processes
            some have found another than the others, on machines without a common disk.
    """
    if "load_from" in (cfg_options or {}):
        cfg.resume = cfg.load_from is not None
    else:
        newest = find_newest(cfg.work_dir)
        cfg.resume = newest is not None
        if cfg.resume:
            cfg.load_from = str(newest)
    if cfg.get("launcher", "none") != "none":
        connect(cfg)
        start = Path(cfg.load_from).name if cfg.resume else None
        check_agreement("the checkpoint that training goes on from", start)
    if cfg.resume and cfg.get("randomness", {}).get("seed") is None:
        meta = CheckpointLoader.load_checkpoint(cfg.load_from, "cpu").get("meta", {})
        cfg.merge_from_dict({"randomness.seed": meta.get("seed")})
