"""The tables of docs/speed.md, from the JSON files that benchmarks/run.sh writes."""

import json
from collections.abc import Iterable
from pathlib import Path

from .paper import markdown

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
INFERENCE = {
    "FCN, R-50-D8, 512 x 1024": "fcn-r50",
    "PSPNet, R-50-D8, 512 x 1024": "pspnet-r50",
    "FCN, R-18-D8, 512 x 1024": "fcn-r18",
    "FCN, MobileNetV2 / Dy-mobile, 512 x 1024": "fcn-mobile",
    "ResNet50, 224 x 224": "resnet50",
    "ResNet18, 224 x 224": "resnet18",
    "MobileNetV2 / Dy-mobile, 224 x 224": "mobile",
}
MORE = {
    "ResNet50, 224 x 224, torch.compile, int8": "resnet50-compile",
    "ResNet18, 224 x 224, torch.compile, int8": "resnet18-compile",
    "MobileNetV2 / Dy-mobile, 224 x 224, torch.compile, int8": "mobile-compile",
    "FCN, R-50-D8, 512 x 1024, onnxruntime": "fcn-r50-onnxruntime",
    "FCN, R-18-D8, 256 x 512, one image": "fcn-r18-256x512-batch1",
    "FCN, R-18-D8, 256 x 512, four images": "fcn-r18-256x512-batch4",
    "FCN, R-50-D8, training step, 2 x 256 x 512": "fcn-r50-training",
}

HEAD = ("network, input", "static, ms", "dynamic, ms", "faster")


def read(name: str) -> dict:
    return json.loads((BENCHMARKS / f"{name}.json").read_text("utf-8"))


def inference_table() -> str:
    """Tabulate inference, also with int8 banks and predictors."""
    records = {title: read(name) for title, name in INFERENCE.items()}
    packed = {title: read(f"{name}-int8") for title, name in INFERENCE.items()}
    rows = [
        [*times(title, record), ratio(packed[title]), f"{record['mac_ratio']:.2f}x"]
        for title, record in records.items()
    ]
    head = [*HEAD, "with int8", "fewer MACs"]
    measured = machine([*records.values(), *packed.values()])
    return f"{markdown(head, rows, left=1)}\n{measured}\n"


def more_table() -> str:
    """Tabulate compiled and exported networks, batches and training."""
    records = {title: read(name) for title, name in MORE.items()}
    rows = [
        [*times(title, record), f"{record['mac_ratio']:.2f}x"]
        for title, record in records.items()
    ]
    table = markdown([*HEAD, "fewer MACs"], rows, left=1)
    return f"{table}\n{training_memory()}\n\n{machine(records.values())}\n"


def training_memory() -> str:
    training = read("fcn-r50-training")
    fused = training["feature_fusion_ms"] / training["dynamic_ms"]
    static, dynamic, feature_fusion = (
        f"{training[f'{side}_peak_mb'] / 1e3:.2f} GB"
        for side in ("static", "dynamic", "feature_fusion")
    )
    return (
        f"Training as in the paper, by fusing feature maps, takes {fused:.1f} times as "
        "long as fusing kernels. Peak memory of the training process: static "
        f"{static}, dynamic {dynamic}, fusing feature maps {feature_fusion}."
    )


def times(title: str, record: dict) -> list[str]:
    both = (f"{record[f'{side}_ms']:.1f}" for side in ("static", "dynamic"))
    return [title, *both, ratio(record)]


def ratio(record: dict) -> str:
    return f"{record['ratio']:.2f}x"


def machine(records: Iterable[dict]) -> str:
    """Name the machine of all records.

    Raises:
        ValueError: There are several.
    """
    machines = {record["machine"] for record in records}
    if len(machines) > 1:
        raise ValueError(
            f"one table with figures of several machines: {', '.join(sorted(machines))}"
        )
    return f"Measured on: {machines.pop()}."
