"""Test (and evaluate) a model: MMSegmentation's tools/test.py, with its arguments."""

from mmengine.runner import Runner

from mmseg_dynet.apis import inner_datasets
from mmseg_dynet.cli import (
    add_launch_arguments,
    check_data,
    config_parser,
    load_run_config,
)


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument("checkpoint", help="path of the checkpoint")
    parser.add_argument("--out", help="directory to save the predicted label maps in")
    parser.add_argument("--show", action="store_true", help="show painted predictions")
    parser.add_argument("--show-dir", help="directory to save painted predictions in")
    parser.add_argument(
        "--wait-time", type=float, default=2, help="seconds to show each prediction"
    )
    parser.add_argument("--tta", action="store_true", help="augment at test time")
    add_launch_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_run_config(args)
    check_data(cfg, "test")
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show or args.show_dir:
        hook = cfg.default_hooks.get("visualization") or {}
        cfg.default_hooks.visualization = dict(
            hook or dict(type="mmseg.SegVisualizationHook"),
            interval=1,  # the hook's own would paint every 50th image only
            show=args.show,
            wait_time=args.wait_time,
            **{"enable" if "enable" in hook else "draw": True},  # mmpretrain's: enable
        )
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir
    if args.tta:
        for _, dataset in inner_datasets(cfg.test_dataloader.dataset):
            dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
    if args.out is not None:
        evaluators = cfg.test_evaluator
        for metric in evaluators if isinstance(evaluators, list) else [evaluators]:
            metric.update(output_dir=args.out, keep_results=True)
    Runner.from_cfg(cfg).test()


if __name__ == "__main__":
    main()
