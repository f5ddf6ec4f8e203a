"""Tables of documents, from the JSON files that the benchmarks write."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from mmseg_dynet.markdown import markdown_table

SUBJECT = "network, input"  # what a row is about: the name of its file
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
TRAINING = "fcn-r50-training"
STEPS = {
    "ResNet50, 224 x 224": "steps-resnet50",
    "MobileNetV2 / Dy-mobile, 224 x 224": "steps-mobile",
    "FCN, R-18-D8, 512 x 1024": "steps-fcn-r18",
}


def inference_table(folder: Path) -> str:
    """Inference in PyTorch, with float32 weights and with int8 ones.

    Args:
        folder: The JSON files of ``benchmarks/run.sh``.

    Returns:
        A Markdown table, and the machine below it.

    Raises:
        ValueError: The files are of more than one machine.
    """
    table = markdown_table(
        SUBJECT, "static, ms", "dynamic, ms", "faster", "with int8", "fewer MACs"
    )
    records = []
    for title, name in INFERENCE.items():
        record, packed = _read(folder, name), _read(folder, f"{name}-int8")
        records += [record, packed]
        table.add_row([title, *_times(record), _ratio(packed), _macs(record)])
    return f"{table}\n\n{_machine(records)}"


def more_table(folder: Path) -> str:
    """Other ways to run, and training. Arguments and result as above."""
    records = {title: _read(folder, name) for title, name in MORE.items()}
    table = markdown_table(SUBJECT, "static, ms", "dynamic, ms", "faster", "fewer MACs")
    for title, record in records.items():
        table.add_row([title, *_times(record), _macs(record)])
    training = _read(folder, TRAINING)
    fused = training["feature_fusion_ms"] / training["dynamic_ms"]
    peaks = {
        side: f"{training[f'{side}_peak_mb'] / 1e3:.2f} GB"
        for side in ("static", "dynamic", "feature_fusion")
    }
    return (
        f"{table}\n\nTraining as the paper does, by fusing feature maps, takes "
        f"{fused:.1f} times as long as fusing kernels. Peak memory of the training "
        f"process: static {peaks['static']}, dynamic {peaks['dynamic']}, fusing "
        f"feature maps {peaks['feature_fusion']}.\n\n{_machine(list(records.values()))}"
    )


def steps_table(folder: Path) -> str:
    """What each step to a fast network bought. Arguments and result as above."""
    parts, records = [], []
    for title, name in STEPS.items():
        record = _read(folder, name)
        records.append(record)
        table = markdown_table(title, "static, ms", "dynamic, ms", "faster")
        for step in record["steps"]:
            static = step["static_ms"]
            cells = ["" if static is None else f"{static:.1f}"]
            cells += [f"{step['dynamic_ms']:.1f}", f"{step['ratio']:.2f}x"]
            table.add_row([step["step"], *cells])
        parts.append(str(table))
    return "\n\n".join([*parts, _machine(records)])


BLOCKS: Mapping[str, Callable[[Path], str]] = {
    "speed-table": inference_table,
    "speed-more": more_table,
    "speed-steps": steps_table,
}


def _read(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def _times(record: dict) -> list[str]:
    times = [f"{record[f'{side}_ms']:.1f}" for side in ("static", "dynamic")]
    return [*times, _ratio(record)]


def _ratio(record: dict) -> str:
    return f"{record['ratio']:.2f}x"


def _macs(record: dict) -> str:
    return f"{record['mac_ratio']:.2f}x"


def _machine(records: list[dict]) -> str:
    machines = {record["machine"] for record in records}
    if len(machines) > 1:
        raise ValueError(
            f"figures of several machines in one table: {', '.join(sorted(machines))}; "
            "run benchmarks/run.sh on one"
        )
    return f"Measured on: {machines.pop()}."
