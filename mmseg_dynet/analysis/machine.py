"""Which machine and which command measured a figure."""

import platform
import re
import shlex
import sys
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
PROCESS_STATUS = Path("/proc/self/status")


def provenance(device: str | torch.device = "cpu") -> dict[str, str]:
    """The "machine" and the "command" of this process, for a file of its figures."""
    return {
        "machine": describe_machine(device),
        "command": shlex.join(["python", *sys.argv]),
    }


def describe_machine(device: str | torch.device = "cpu") -> str:
    """Name processor, PyTorch's threads, their vector instructions, and versions.

    If ``device`` is a GPU, its name comes first.
    """
    parts = [
        _field(CPU_INFO, "model name") or platform.processor() or platform.machine(),
        f"{torch.get_num_threads()} threads",
        torch.backends.cpu.get_cpu_capability(),
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
        platform.system(),
    ]
    if torch.device(device).type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join(parts)


def peak_resident_memory() -> int | None:
    """The most memory that this process has held so far, in bytes; None off Linux.

    (A child process inherits the peak that getrusage reports.)
    """
    peak = _field(PROCESS_STATUS, "VmHWM")
    return None if peak is None else int(peak.removesuffix("kB")) * 1024


def _field(path: Path, name: str) -> str | None:
    """Read a line "name: value" of a file in /proc."""
    text = path.read_text("utf-8") if path.is_file() else ""
    match = re.search(rf"^{name}\s*: *(.*\S)", text, re.MULTILINE)
    return match and match[1]
