"""Measure the cost, time and coefficients of networks. Needs torch, not the host."""

from .coefficients import CoefficientRecorder, CoefficientSummary
from .complexity import Complexity, count_complexity
from .latency import Latency, inference_call, time_alternating, training_call
from .machine import describe_machine

__all__ = [
    "CoefficientRecorder",
    "CoefficientSummary",
    "Complexity",
    "Latency",
    "count_complexity",
    "describe_machine",
    "inference_call",
    "time_alternating",
    "training_call",
]
