"""Judge all runs on CamVid by its test split: once, at the end.

Takes each run of train.py on CamVid that has a result and a checkpoint. A figure per
drive: of 0001TP other frames were trained on, Seq05VD is a drive of its own. Start it
in the root of the repository; results/test/ gets a file per run. ``--split val`` tries
it where it does no harm, and must repeat the results of the runs.
"""

from argparse import ArgumentParser
from pathlib import Path

import torch
from evaluation import evaluate, images_of
from mmengine.config import Config
from train import FOLDER, runs_with_checkpoints

from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model, load_config
from mmseg_dynet.files import write_json


def drive_of(path: str) -> str:
    """The drive of a frame, which begins its name: 0001TP_006690.png."""
    return Path(path).name.partition("_")[0]


def test(cfg: Config, checkpoint: Path, split: str) -> dict[str, float]:
    """The mIoU of all images, and by drive."""
    model = build_model(cfg, str(checkpoint))
    folders = dict(img_path=f"img_dir/{split}", seg_map_path=f"ann_dir/{split}")
    images = images_of(cfg, dict(cfg.test_dataloader.dataset, data_prefix=folders))
    return evaluate(cfg, model, images, drive_of)


def judge(run: dict, checkpoint: Path, split: str) -> dict:
    """The network of a run on whole images and in windows."""
    cfg = load_config(FOLDER / "configs" / run["config"])
    whole = test(cfg, checkpoint, split)
    cfg.model.test_cfg = cfg.windows
    windows = test(cfg, checkpoint, split)
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
    for run, checkpoint in runs_with_checkpoints(args.work_dirs):
        result = FOLDER / "results" / args.split / f"{checkpoint.parent.name}.json"
        if run["dataset"] == "camvid" and not result.exists():
            outcome = judge(run, checkpoint, args.split)
            write_json(result, outcome | provenance())


if __name__ == "__main__":
    main()
