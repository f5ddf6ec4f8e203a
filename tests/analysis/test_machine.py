"""The machine is named, and its memory read, from the files that Linux has."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from mmseg_dynet.analysis import machine

ROOT = Path(__file__).parents[2]


def test_processor_threads_and_versions_are_named(tmp_path, monkeypatch):
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("processor\t: 0\nmodel name\t: Some CPU: 9000\n")
    monkeypatch.setattr(machine, "CPU_INFO", cpu_info)
    described = machine.describe_machine()
    assert "Some CPU: 9000" in described
    assert f"{torch.get_num_threads()} threads" in described
    assert torch.__version__ in described


def test_a_gpu_is_named_only_where_it_computes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert "GPU" not in machine.describe_machine()
    assert machine.describe_machine("cuda:1").startswith("GPU cuda:1, ")


def test_without_linux_the_processor_is_what_python_knows(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "a processor")
    assert "a processor" in machine.describe_machine()


def test_peak_memory_sees_what_was_freed():
    # In a process of its own: this one may have held more, and given it back.
    script = """
import torch
from mmseg_dynet.analysis.machine import peak_resident_memory
before = peak_resident_memory()
torch.ones(200 * 2**18).sum()
print(peak_resident_memory() - before)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(done.stdout.split()[-1])
    assert 100 * 2**20 < grown < 400 * 2**20


def test_peak_memory_is_not_guessed(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "PROCESS_STATUS", tmp_path / "none")
    assert machine.peak_resident_memory() is None
