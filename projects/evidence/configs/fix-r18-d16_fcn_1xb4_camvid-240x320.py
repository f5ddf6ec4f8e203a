"""Arm "control": static at the width of Dy-ResNet-18."""

_base_ = "./r18-d16_fcn_1xb4_camvid-240x320.py"
model = dict(
    backbone=dict(base_channels=32),
    decode_head=dict(in_channels=256, channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
optim_wrapper = dict(optimizer=dict(lr=0.008))  # that of LabelMeFacade
