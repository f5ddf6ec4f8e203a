"""For _base_ of a config with an iteration-based loop: bit-equal resumption."""

import sys

if "{{ fileDirname }}" not in sys.path:
    sys.path.insert(0, "{{ fileDirname }}")
__import__("replay")  # in a venv, MMEngine 0.10.7 takes only sys for built-in

runner_type = "ReplayRunner"
