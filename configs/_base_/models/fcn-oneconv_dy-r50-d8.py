"""The dilated FCN of DyNet's table 3 on Dy-ResNet-50."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(type="DyResNet"),
    decode_head=dict(in_channels=1024, channels=256, num_convs=1, concat_input=False),
    auxiliary_head=dict(in_channels=512, channels=128),
)
