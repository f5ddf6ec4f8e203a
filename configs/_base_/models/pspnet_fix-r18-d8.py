"""PSPNet on Fix-ResNet-18: static at the width of Dy-ResNet-18, the control."""

_base_ = "./pspnet_r50-d8.py"
model = dict(
    backbone=dict(depth=18, base_channels=32),
    decode_head=dict(in_channels=256, channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
