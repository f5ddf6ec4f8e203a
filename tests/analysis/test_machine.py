"""Machine and memory are read from the files that Linux has, or not guessed."""

import subprocess
import sys

import torch

from mmseg_dynet.analysis import machine


def test_processor_threads_and_versions_are_named(tmp_path, monkeypatch):
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("processor\t: 0\nmodel name\t: Some CPU: 9000\n")
    monkeypatch.setattr(machine, "CPU_INFO", cpu_info)
    described = machine.describe_machine()
    assert described.startswith(f"Some CPU: 9000, {torch.get_num_threads()} threads, ")
    assert torch.__version__ in described


def test_peak_memory_sees_what_was_freed(tmp_path, monkeypatch):
    # In a process of its own: this one may have held more, and freed it.
    script = f"""
import runpy, torch
peak = runpy.run_path({machine.__file__!r})["peak_resident_memory"]
before = peak()
torch.ones(200 * 2**18).sum()
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert 100 * 2**20 < int(done.stdout) < 400 * 2**20
    monkeypatch.setattr(machine, "PROCESS_STATUS", tmp_path / "none")
    assert machine.peak_resident_memory() is None
