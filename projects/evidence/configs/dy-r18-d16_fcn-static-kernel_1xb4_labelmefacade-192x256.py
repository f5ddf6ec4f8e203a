"""Arm "static-kernel": one of the six kernels is static, the others start at zero."""

_base_ = "./dy-r18-d16_fcn_1xb4_labelmefacade-192x256.py"
model = dict(backbone=dict(coefficients=dict(static_kernel=True)))
