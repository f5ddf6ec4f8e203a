"""Tables of README.md and configs/dynet/README.md; `make tables` writes them.

MACs and parameters are counted. Times are those of the benchmarks, and mIoU is what
metafile.yml says; a config that it does not name was not trained.
"""

import json
import logging
import re
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.fileio import load

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.apis import build_model, input_size

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "configs/dynet"
BENCHMARKS = ("fcn-r50-c512", "fcn-r50", "fcn-r18", "fcn-mobile", "pspnet-r50")
# The rows of the project's README: static networks, each above its dynamic one.
HEADLINE = {
    "FCN, R-50": "fcn_r50-d8",
    "FCN, Dy-R-50": "dy-r50-d8_fcn",
    "FCN, Dy-R-50, head of R-50's width": "dy-r50-d8_fcn-c512",
    "FCN, R-18": "fcn_r18-d8",
    "FCN, Dy-R-18": "dy-r18-d8_fcn",
    "PSPNet, R-50": "pspnet_r50-d8",
    "PSPNet, Dy-R-50": "dy-r50-d8_pspnet",
    "FCN, MobileNetV2": "mobilenet-v2-d8_fcn-c80",
    "FCN, Dy-mobile": "dy-mobile-d8_fcn",
}
DATASETS = {
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "camvid": "CamVid",
    "synthetic-streets": "Synthetic streets",
}


def read_accuracy():
    """By name of the config: mIoU in percent, and what it is the mean of."""
    accuracy = {}
    for model in load(str(FOLDER / "metafile.yml"))["Models"]:
        seeds, precision = (model["Metadata"][key] for key in ("Seeds", "Precision"))
        (result,) = model["Results"]
        accuracy[model["Name"]] = (
            f"{result['Metrics']['mIoU']:.2f} "
            f"({seeds} seed{'s' * (seeds > 1)}, {precision})"
        )
    return accuracy


def read_times():
    """By name of the config: milliseconds for one image; and the machine of all."""
    times, machines = {}, set()
    for name in BENCHMARKS:
        record = json.loads((ROOT / f"benchmarks/{name}.json").read_text("utf-8"))
        machines.add(record["machine"])
        for arm in ("static", "dynamic"):
            times[Path(record[arm]).stem] = f"{record[f'{arm}_ms']:.0f}"
    (machine,) = machines
    return times, machine


def count(cfg):
    """GMACs of backbone and head at the training size, and millions of parameters."""
    logging.disable(logging.INFO)  # the reports of dynamized networks
    # Weights are counted, not initialised; but SegNeXt computes with numbers.
    with torch.device("cpu" if "MSCAN" in str(cfg.model.backbone) else "meta"):
        model = build_model(cfg)
    counts = count_complexity(model, (1, 3, *input_size(cfg)))
    backbone = counts.macs - counts.head
    return backbone / 1e9, counts.head / 1e9, counts.parameters / 1e6


def twins_together(path):
    """Sort key: the networks of one kind, then the static one, control and dynamic."""
    size, method, network, schedule = (
        match[0] if (match := re.search(pattern, path.stem)) else ""
        for pattern in (
            r"\d{3,}x\d{3,}",
            "fcn|pspnet|deeplabv3plus|lraspp|ddrnet|pidnet|stdc|bisenet|segnext",
            r"r\d+|mobile|shuffle",
            r"\d+xb\d+-\d+",
        )
    )
    arm = path.stem.startswith("fix-") + 2 * path.stem.startswith("dy-")
    return size, method, network, schedule, arm, path.stem


def render():
    """The tables in Markdown, one per data set."""
    accuracy, (times, machine) = read_accuracy(), read_times()
    lines = []
    for key, title in DATASETS.items():
        lines += [
            f"### {title}",
            "",
            "| config | GMACs, backbone | GMACs, head | parameters, 10^6 | CPU, ms "
            "| mIoU, % |",
            "| :-- | --: | --: | --: | --: | --: |",
        ]
        for path in sorted(FOLDER.glob(f"*{key}*.py"), key=twins_together):
            cells = [
                f"[{path.stem}](./{path.name})",
                *(f"{number:.2f}" for number in count(Config.fromfile(path))),
                times.get(path.stem, "-"),
                accuracy.get(path.stem, "not trained here"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, f"CPU times by `benchmarks/run.sh`: {machine}."])


def headline():
    """The table of the project's README in Markdown."""
    times, machine = read_times()
    lines = [
        "| network | GMACs, backbone | GMACs, head | CPU, ms |",
        "| :-- | --: | --: | --: |",
    ]
    for name, start in HEADLINE.items():
        path = FOLDER / f"{start}_4xb2-80k_cityscapes-512x1024.py"
        backbone, head, _ = count(Config.fromfile(path))
        cells = [
            f"[{name}](configs/dynet/{path.name})",
            f"{backbone:.1f}",
            f"{head:.1f}",
            times.get(path.stem, "-"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Times by `benchmarks/run.sh`: {machine}."])
