"""For _base_ of a config with an iteration-based loop: bit-equal resumption."""

import importlib
import sys

if "{{ fileDirname }}" not in sys.path:
    sys.path.insert(0, "{{ fileDirname }}")
importlib.import_module("replay")

runner_type = "ReplayRunner"
