"""The dilated FCN of DyNet's table 3 (a one-conv head, plain stem) on ResNet-50."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(type="ResNet"),
    decode_head=dict(in_channels=2048, channels=512, num_convs=1, concat_input=False),
    auxiliary_head=dict(in_channels=1024, channels=256),
)
