"""Train a model: MMSegmentation's tools/train.py, with its arguments."""

from mmengine.device import get_device
from mmengine.registry import RUNNERS

from mmseg_dynet.cli import (
    add_launch_arguments,
    check_data,
    config_parser,
    load_run_config,
    resume,
)
from mmseg_dynet.engine.launch import GPUS


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume from the newest undamaged checkpoint in the work dir, "
        "if there is one, or from load_from of --cfg-options",
    )
    parser.add_argument(
        "--amp", action="store_true", help="train with automatic mixed precision"
    )
    add_launch_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_run_config(args)
    check_data(cfg, "train", "val")
    if args.resume or cfg.get("resume"):
        resume(cfg, args.cfg_options)
    wrapper = cfg.optim_wrapper.get("type")
    wrapper = getattr(wrapper, "__name__", wrapper)  # a class in a lazy config
    if args.amp and wrapper != "BFloat16OptimWrapper":
        if wrapper not in (None, "OptimWrapper", "AmpOptimWrapper"):
            raise ValueError(f"--amp would replace optim_wrapper.type={wrapper}")
        if get_device() in GPUS:
            cfg.optim_wrapper.type = "AmpOptimWrapper"
            cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
        else:  # MMEngine's needs a GPU
            cfg.optim_wrapper.type = "BFloat16OptimWrapper"
            for option in ("loss_scale", "dtype", "use_fsdp"):
                cfg.optim_wrapper.pop(option, None)
    RUNNERS.build(cfg).train()


if __name__ == "__main__":
    main()
