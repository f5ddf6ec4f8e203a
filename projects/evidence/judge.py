"""Judge the runs of DDRNet on CamVid by its test split, each once, when it has ended.

Takes those of seed 1 and later that have a result and a checkpoint: seed 0 has chosen
the learning rates. A figure per drive: of 0001TP other frames were trained on, Seq05VD
is a drive of its own. Start it in the root of the repository; results/test/ gets a file
per run. ``--split val`` tries it where it does no harm, and must repeat their results.
"""

from argparse import ArgumentParser
from collections import defaultdict
from pathlib import Path

import torch
from evaluation import collection_of, images_of, mean_iou, test
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader
from train import FOLDER, describe_commit, runs_with_checkpoints

from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.files import write_json


def by_drive(cfg: Config, model: nn.Module, images: DataLoader) -> dict[str, float]:
    """The mIoU of all images, and of each drive, by which frames are named."""
    drives = defaultdict(list)
    for path, areas in test(cfg, model, images).items():
        drives["all"].append(areas)
        drives[collection_of(path)].append(areas)
    return {drive: mean_iou(areas) for drive, areas in drives.items()}


def judge(run: dict, checkpoint: Path, split: str) -> dict:
    """The network of a run on whole images and in windows."""
    cfg = load_config(FOLDER / "configs" / run["config"])
    model = build_model(cfg, str(checkpoint))
    folders = dict(img_path=f"img_dir/{split}", seg_map_path=f"ann_dir/{split}")
    images = images_of(cfg, dict(cfg.test_dataloader.dataset, data_prefix=folders))
    whole = by_drive(cfg, model, images)
    model.test_cfg = cfg.windows
    windows = by_drive(cfg, model, images)
    kept = ("arm", "network", "dataset", "seed")
    return {key: run[key] for key in kept} | {
        "parts": {
            part: {"mIoU": whole[part], "windows_mIoU": windows[part]} for part in whole
        }
    }


def main() -> None:
    """Judge all runs that have not been judged."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work-dirs", type=Path, default=Path("work_dirs/evidence"))
    parser.add_argument("--split", choices=["test", "val"], default="test")
    args = parser.parse_args()
    torch.set_num_threads(1)
    origin = {"commit": describe_commit()} | provenance()
    for run, checkpoint in runs_with_checkpoints(args.work_dirs):
        is_judged = (run["network"], run["dataset"]) == ("ddrnet23", "camvid")
        result = FOLDER / "results" / args.split / f"{checkpoint.parent.name}.json"
        if is_judged and run["seed"] > 0 and not result.exists():
            write_json(result, judge(run, checkpoint, args.split) | origin)


if __name__ == "__main__":
    main()
