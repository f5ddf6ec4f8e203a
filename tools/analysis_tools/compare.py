"""Compare trained models: cost, latency and mIoU in a table, predictions in a picture.

The first config is the one that the others are measured against. Cost is that of an
image as it is tested: as a whole, or in all of its windows.
"""

from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.runner import Runner
from prettytable import PrettyTable
from torch import Tensor, nn

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.gallery import colorize, draw_gallery
from mmseg_dynet.analysis.latency import time_alternating
from mmseg_dynet.apis import spread, windows_shape
from mmseg_dynet.cli import at_least, config_parser, default_work_dir, load_config
from mmseg_dynet.engine.checkpoint import find_newest, short_name
from mmseg_dynet.files import write_figure, write_json


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        metavar="FILE",
        help="one a config (default: the last one in work_dirs/CONFIG_NAME)",
    )
    parser.add_argument("--picture", type=Path, help="write predictions here (PNG)")
    parser.add_argument("--json", type=Path, help="write the table here as JSON")
    parser.add_argument(
        "--num-images",
        type=at_least(1),
        default=4,
        help="images in the picture (default: 4)",
    )
    parser.add_argument(
        "--repeats",
        type=at_least(1),
        default=10,
        help="timed forward passes (default: 10)",
    )
    args = parser.parse_args()
    if args.checkpoints is not None and len(args.checkpoints) != len(args.configs):
        parser.error(
            f"{len(args.configs)} configs but {len(args.checkpoints)} checkpoints: "
            "give one checkpoint a config, in the same order, or none"
        )
    return args


def find_checkpoint(config_path: str) -> str:
    work_dir = default_work_dir(config_path)
    checkpoint = find_newest(work_dir)
    if checkpoint is None:
        raise FileNotFoundError(
            f"no checkpoint in {work_dir}: train it with\n"
            f"    python tools/train.py {config_path}\n"
            "or name one with --checkpoints"
        )
    return str(checkpoint)


def name_networks(config_paths: list[str], checkpoints: list[str]) -> list[str]:
    """Name each network after its config, and where one is twice, the checkpoint."""
    names = [Path(path).stem for path in config_paths]
    if len(set(names)) < len(names):
        pairs = zip(names, checkpoints, strict=True)
        names = [f"{name}, {short_name(checkpoint)}" for name, checkpoint in pairs]
    return names


def build_runner(name: str, cfg: Config, checkpoint: str, work_dir: str) -> Runner:
    cfg.load_from = checkpoint
    cfg.work_dir = work_dir
    # Visualizers are global by name: a second one would write to the first's work dir.
    cfg.visualizer.name = name
    return Runner.from_cfg(cfg)


@torch.inference_mode()
def predict(runner: Runner, sample: dict) -> np.ndarray:
    (result,) = runner.model.test_step(pseudo_collate([sample]))
    return result.pred_sem_seg.data[0].cpu().numpy()


def run(model: nn.Module, windows: Tensor) -> None:
    """Run a segmentor on the windows of an image, (N, 3, H, W), as in a test."""
    for window in windows.split(1):
        model(window)


def draw_predictions(runners: dict[str, Runner], num_images: int):
    dataset = next(iter(runners.values())).test_dataloader.dataset
    classes, palette = dataset.metainfo["classes"], dataset.metainfo["palette"]
    samples = list(spread(dataset, num_images))
    images = [s["inputs"].flip(0).permute(1, 2, 0).numpy() for s in samples]  # BGR
    truths = [s["data_samples"].gt_sem_seg.data[0].numpy() for s in samples]
    columns = {
        "image": images,
        "ground truth": [colorize(truth, palette) for truth in truths],
    }
    for name, runner in runners.items():
        columns[name] = [colorize(predict(runner, s), palette) for s in samples]
    return draw_gallery(columns, classes, palette)


def main():
    args = parse_args()
    checkpoints = args.checkpoints or [find_checkpoint(p) for p in args.configs]
    runners, metrics, counts = {}, {}, {}
    names = name_networks(args.configs, checkpoints)
    for name, path, checkpoint in zip(names, args.configs, checkpoints, strict=True):
        cfg = load_config(path, args.cfg_options)
        runners[name] = build_runner(name, cfg, checkpoint, default_work_dir(path))
        metrics[name] = {k: float(v) for k, v in runners[name].test().items()}

    sample = next(iter(runners.values())).test_dataloader.dataset[0]
    image_size = tuple(sample["inputs"].shape[1:])
    device, passes = get_device(), {}
    for name, runner in runners.items():
        windows = torch.rand(windows_shape(runner.cfg, image_size), device=device)
        counts[name] = count_complexity(runner.model, windows.shape)
        passes[name] = partial(run, runner.model, windows)
    with torch.inference_mode():
        seconds = time_alternating(passes, args.repeats)

    first = next(iter(runners))
    latency = {name: 1e3 * median(values) for name, values in seconds.items()}
    table = PrettyTable(
        ["", "GMACs", "vs first, %", "parameters, 10^6", "latency, ms", "speed-up",
         "mIoU, %"], align="r",
    )  # fmt: skip
    table.title = f"an image of {' x '.join(map(str, image_size))}, {device}"
    table.align[""] = "l"
    for name, count in counts.items():
        table.add_row([
            name, f"{count.macs / 1e9:.3f}",
            f"{100 * (count.macs / counts[first].macs - 1):+.1f}",
            f"{count.parameters / 1e6:.2f}", f"{latency[name]:.1f}",
            f"{latency[first] / latency[name]:.2f}x", f"{metrics[name]['mIoU']:.2f}",
        ])  # fmt: skip
    print(table)
    if args.json is not None:
        report = {
            name: counts[name].as_dict()
            | {"latency_ms": latency[name], "metrics": metrics[name]}
            for name in runners
        }
        write_json(args.json, report)
    if args.picture is not None:
        write_figure(args.picture, draw_predictions(runners, args.num_images))
        print(f"predictions side by side: {args.picture}")


if __name__ == "__main__":
    main()
