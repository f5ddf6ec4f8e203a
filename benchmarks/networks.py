"""Count and time networks that people use beside their dynamic versions.

For the table of docs/choose.md: MACs of one image at two sizes, parameters without
auxiliary heads, and milliseconds at the smaller size on a CPU, where all networks take
turns, treated alike: float32, batch norms folded, channels_last, random weights. The
published networks are the configs that MMSegmentation installs, and their mIoU is what
its metafiles say. Writes networks.json beside this file.
"""

import json
import logging
from argparse import ArgumentParser
from pathlib import Path

import mmseg
import torch
from mmengine.config import Config
from mmengine.fileio import load

from mmseg_dynet.analysis.complexity import count_complexity
from mmseg_dynet.analysis.latency import inference_call, time_alternating
from mmseg_dynet.analysis.machine import provenance
from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import at_least
from mmseg_dynet.deploy import optimize_for_inference
from mmseg_dynet.files import write_json

RECORD = Path(__file__).with_suffix(".json")
OURS = Path(__file__).resolve().parents[1] / "configs/dynet"
HOST = Path(mmseg.__path__[0], ".mim/configs")
SIZES = (512, 1024), (1024, 2048)
# Each dynamic network below its static twin and its control of the same width. A name
# with a folder is a config of MMSegmentation's, others are those of configs/dynet.
NETWORKS = {
    "FCN, R-50": "fcn/fcn_r50-d8_4xb2-80k_cityscapes-512x1024",
    "FCN, Dy-R-50": "dy-r50-d8_fcn_4xb2-80k_cityscapes-512x1024",
    "FCN, R-18": "fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024",
    "FCN, R-18, half width": "fix-r18-d8_fcn_4xb2-80k_cityscapes-512x1024",
    "FCN, Dy-R-18": "dy-r18-d8_fcn_4xb2-80k_cityscapes-512x1024",
    "PSPNet, R-50": "pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024",
    "PSPNet, Dy-R-50": "dy-r50-d8_pspnet_4xb2-80k_cityscapes-512x1024",
    "PSPNet, R-18": "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024",
    "PSPNet, Dy-R-18": "dy-r18-d8_pspnet_4xb2-80k_cityscapes-512x1024",
    "DeepLabV3+, R-50": "deeplabv3plus/"
    "deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024",
    "DeepLabV3+, Dy-R-50": "dy-r50-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024",
    "DeepLabV3+, R-18": "deeplabv3plus/"
    "deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024",
    "Semantic FPN, R-50": "sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024",
    "DDRNet-23": "ddrnet/ddrnet_23_in1k-pre_2xb6-120k_cityscapes-1024x1024",
    "DDRNet-23-slim": "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024",
    "Dy-DDRNet-23": "dy-ddrnet_23_in1k-pre_2xb6-120k_cityscapes-1024x1024",
    "PIDNet-M": "pidnet/pidnet-m_2xb6-120k_1024x1024-cityscapes",
    "PIDNet-S": "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes",
    "Dy-PIDNet-M": "dy-pidnet-m_2xb6-120k_1024x1024-cityscapes",
    "PIDNet-S, half width": "fix-pidnet-s_2xb6-120k_1024x1024-cityscapes",
    "Dy-PIDNet-S": "dy-pidnet-s_2xb6-120k_1024x1024-cityscapes",
    "STDC2": "stdc/stdc2_in1k-pre_4xb12-80k_cityscapes-512x1024",
    "STDC1": "stdc/stdc1_in1k-pre_4xb12-80k_cityscapes-512x1024",
    "STDC1, half width": "fix-stdc1_4xb12-80k_cityscapes-512x1024",
    "Dy-STDC1": "dy-stdc1_4xb12-80k_cityscapes-512x1024",
    "BiSeNetV2": "bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
    "BiSeNetV2, half width": "fix-bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
    "Dy-BiSeNetV2": "dy-bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
    "SegNeXt-T": "segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512",
    "SegNeXt-T, half width": "fix-segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512",
    "Dy-SegNeXt-T": "dy-segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512",
    "SegFormer-B0": "segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024",
    "Fast-SCNN": "fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024",
}
# MMSegmentation has trained it on ADE20K only; see the authors' README,
# https://github.com/Visual-Attention-Network/SegNeXt
PUBLISHED_ELSEWHERE = {"SegNeXt-T": 79.8}
NUM_CLASSES = 19


def build(config: str) -> torch.nn.Module:
    """A segmentor for Cityscapes with random weights, without auxiliary heads."""
    cfg = Config.fromfile((HOST if "/" in config else OURS) / f"{config}.py")
    cfg.model.auxiliary_head = None
    cfg.model.decode_head.num_classes = NUM_CLASSES
    return build_model(cfg)


def published_miou(name: str, config: str) -> float | None:
    """What others have measured on the validation set, at a single scale."""
    folder, _, stem = config.rpartition("/")
    for model in load(HOST / folder / "metafile.yaml")["Models"] if folder else ():
        if model["Name"] == stem and model["Metadata"]["Training Data"] == "Cityscapes":
            return model["Results"]["Metrics"]["mIoU"]
    return PUBLISHED_ELSEWHERE.get(name)


def measure(repeats: int) -> list[dict]:
    """The figures of every network, in the order of NETWORKS."""
    image = torch.rand(1, 3, *SIZES[0]).contiguous(memory_format=torch.channels_last)
    rows, calls = [], {}
    for name, config in NETWORKS.items():
        model = build(config)
        counts = [count_complexity(model, (1, 3, *size)) for size in SIZES]
        rows.append(
            dict(
                name=name,
                config=config,
                gmacs=[count.macs / 1e9 for count in counts],
                parameters=counts[0].parameters / 1e6,
                mIoU=published_miou(name, config),
            )
        )
        calls[name] = inference_call(optimize_for_inference(model), image)
    times = time_alternating(calls, repeats, warmup=1)
    for row in rows:
        row["ms"] = times[row["name"]].median
    return rows


def table() -> str:
    """What has been measured, as a table in Markdown."""
    record = json.loads(RECORD.read_text("utf-8"))
    lines = [
        "| network | GMACs, 512x1024 | GMACs, 1024x2048 | parameters, 10^6 | CPU, ms "
        "| Cityscapes mIoU, % |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for row in record["networks"]:
        name, config = row["name"], row["config"]
        if (OURS / f"{config}.py").exists():
            name = f"[{name}](../configs/dynet/{config}.py)"
        cells = [
            f"**{name}**" if "Dy-" in name else name,
            f"{row['gmacs'][0]:.2f}",
            f"{row['gmacs'][1]:.1f}",
            f"{row['parameters']:.1f}",
            f"{row['ms']:.0f}",
            f"{row['mIoU']:.2f}" if row["mIoU"] else "not trained here",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Measured on: {record['machine']}."])


def main() -> None:
    """Measure, write the record and print the table."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=at_least(1), default=2, help="default: 2")
    parser.add_argument(
        "--repeats", type=at_least(1), default=7, help="timed rounds (default: 7)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)  # the reports of dynamized networks
    write_json(RECORD, {"networks": measure(args.repeats)} | provenance())
    print(table())


if __name__ == "__main__":
    main()
