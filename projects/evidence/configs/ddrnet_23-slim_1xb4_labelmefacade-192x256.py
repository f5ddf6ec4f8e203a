"""Arm "control": DDRNet-23-slim, static at the width of dynamic."""

_base_ = "./ddrnet_23_1xb4_labelmefacade-192x256.py"
model = dict(
    backbone=dict(channels=32), decode_head=dict(in_channels=32 * 4, channels=64)
)
optim_wrapper = dict(optimizer=dict(lr=0.008))  # the best of three
