"""The tables of docs/speed.md, from the JSON files that benchmarks/run.sh writes."""

import json
from pathlib import Path

from .paper import markdown

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
RUNTIMES = {
    "eager": "PyTorch",
    "compile": "torch.compile",
    "onnxruntime": "onnxruntime",
    "openvino": "OpenVINO",
}
# Networks and input sizes, and the files of their rows.
ROWS = {
    "FCN, R-50-D8, 512 x 1024": ("fcn-r50", "fcn-r50-onnxruntime", "fcn-r50-openvino"),
    "FCN, R-50-D8, head of equal width, 512 x 1024": ("fcn-r50-c512",),
    "PSPNet, R-50-D8, 512 x 1024": ("pspnet-r50",),
    "FCN, R-18-D8, 512 x 1024": ("fcn-r18",),
    "FCN, MobileNetV2 / Dy-mobile, 512 x 1024": ("fcn-mobile",),
    "DDRNet-23, 512 x 1024": ("ddrnet", "ddrnet-openvino"),
    "DDRNet-23-slim / Dy-DDRNet-23, 512 x 1024": (
        "ddrnet-slim",
        "ddrnet-slim-openvino",
    ),
    "FCN, R-18-D8, 256 x 512": ("fcn-r18-256x512-batch1",),
    "FCN, R-18-D8, 4 x 256 x 512": ("fcn-r18-256x512-batch4",),
    "ResNet50, 224 x 224": (
        "resnet50",
        "resnet50-int8",
        "resnet50-compile",
        "resnet50-openvino",
    ),
    "ResNet18, 224 x 224": ("resnet18", "resnet18-compile"),
    "MobileNetV2 / Dy-mobile, 224 x 224": (
        "mobile",
        "mobile-int8",
        "mobile-compile",
        "mobile-openvino",
    ),
    "FCN, R-50-D8, training, 2 x 256 x 512": ("fcn-r50-training",),
    "ResNet18, training, 16 x 224 x 224": ("resnet18-training-224x224",),
    "ResNet18, training, 64 x 64 x 64": ("resnet18-training-64x64",),
    "ResNet18, training, 64 x 64 x 64, contiguous": (
        "resnet18-training-64x64-contiguous",
    ),
}


def read(name: str) -> dict:
    return json.loads((BENCHMARKS / f"{name}.json").read_text("utf-8"))


def tables() -> str:
    """Tabulate the rows that have been measured, one table per machine."""
    rows = {}
    for title, names in ROWS.items():
        for name in names:
            if not (BENCHMARKS / f"{name}.json").exists():
                continue
            record = read(name)
            int8 = ", int8" if "--int8" in record["command"] else ""
            row = [
                title,
                RUNTIMES[record["backend"]] + int8,
                f"{record['static_ms']:.1f}",
                f"{record['dynamic_ms']:.1f}",
                f"{record['ratio']:.2f}x",
                f"{record['mac_ratio']:.2f}x",
            ]
            rows.setdefault(record["machine"], []).append(row)
    head = [
        "network, input",
        "in",
        "static, ms",
        "dynamic, ms",
        "speed-up",
        "MAC ratio",
    ]
    return "\n".join(
        f"{markdown(head, group, left=2)}\nMeasured on: {machine}.\n"
        for machine, group in rows.items()
    )


def training_memory() -> str:
    fcn, small = read("fcn-r50-training"), read("resnet18-training-64x64")
    slower = fcn["feature_fusion_ms"] / fcn["dynamic_ms"]
    return (
        "Peak memory of the training process: FCN on R-50 "
        f"{_peak(fcn, 'static')}, on Dy-R-50 {_peak(fcn, 'dynamic')}; with 64 images "
        f"of 64 x 64, ResNet18 {_peak(small, 'static')}, Dy-ResNet18 "
        f"{_peak(small, 'dynamic')}. Training FCN by fusing all feature maps, as in "
        f"the paper, takes {slower:.1f} times as long and "
        f"{_peak(fcn, 'feature_fusion')}."
    )


def _peak(record: dict, side: str) -> str:
    return f"{record[f'{side}_peak_mb'] / 1e3:.2f} GB"
