"""Arm "softmax": over kernels, its temperature lowered from 30 to 1."""

_base_ = "./dy-r18-d16_fcn_1xb4_labelmefacade-192x256.py"
model = dict(backbone=dict(coefficients=dict(normaliser="softmax")))
default_hooks = dict(temperature=dict(type="TemperatureHook", iterations=400))
