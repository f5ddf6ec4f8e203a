"""Arm "one-kernel": dynamic with one kernel per output channel, channel attention."""

_base_ = "./dy-r18-d16_fcn_1xb4_labelmefacade-192x256.py"
model = dict(backbone=dict(num_kernels=1))
