"""FCN on Fix-ResNet-18, output stride 16: static at the width of Dy-ResNet-18."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(
        type="ResNet",
        base_channels=32,
        depth=18,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
    ),
    decode_head=dict(in_channels=256, channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
