"""What a figure was measured on, and by which command."""

import platform
import shlex
import sys
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
PROCESS_STATUS = Path("/proc/self/status")


def describe_machine(device: str | torch.device = "cpu") -> str:
    """Name processor, threads that PyTorch uses, their vector units, and versions.

    Args:
        device: What computes; if it is a GPU, its name comes first.
    """
    parts = [
        _processor(),
        f"{torch.get_num_threads()} threads",
        torch.backends.cpu.get_cpu_capability(),
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
        platform.system(),
    ]
    if torch.device(device).type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join(parts)


def provenance(device: str | torch.device = "cpu") -> dict[str, str]:
    """Where figures come from, for their file: "machine", and this tool's "command".

    Args:
        device: What computed them.
    """
    return {
        "machine": describe_machine(device),
        "command": shlex.join(["python", *sys.argv]),
    }


def peak_resident_memory() -> int | None:
    """The most memory that this process has held so far, in bytes; on Linux.

    None elsewhere. (What getrusage says is no help: a child inherits it.)
    """
    peak = _field(PROCESS_STATUS, "VmHWM")
    return None if peak is None else int(peak.removesuffix("kB")) * 1024


def _processor() -> str:
    return _field(CPU_INFO, "model name") or platform.processor() or platform.machine()


def _field(path: Path, name: str) -> str | None:
    """Read a line "name: value" of a file of /proc, if there is one."""
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None
