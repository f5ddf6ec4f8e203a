"""PSPNet on Fix-ResNet-50: static at the width of Dy-ResNet-50, the control."""

_base_ = "./pspnet_r50-d8.py"
model = dict(
    backbone=dict(base_channels=32),
    decode_head=dict(in_channels=1024, channels=256),
    auxiliary_head=dict(in_channels=512, channels=128),
)
