"""Arm "per-kernel": one coefficient per kernel, for all output channels of a layer."""

_base_ = "./dy-r18-d16_fcn_1xb4_labelmefacade-192x256.py"
model = dict(backbone=dict(coefficients=dict(granularity="kernel")))
