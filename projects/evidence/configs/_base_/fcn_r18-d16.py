"""FCN on ResNet-18 with the plain stem at output stride 16."""

_base_ = "../../../../configs/_base_/models/fcn_r50-d8.py"
model = dict(
    pretrained=None,
    backbone=dict(
        type="ResNet", depth=18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
    ),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
