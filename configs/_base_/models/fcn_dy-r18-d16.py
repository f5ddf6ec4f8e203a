"""FCN on Dy-ResNet-18 with the plain stem at output stride 16: for small images."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(
        type="DyResNet",
        depth=18,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
    ),
    decode_head=dict(in_channels=256, channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
