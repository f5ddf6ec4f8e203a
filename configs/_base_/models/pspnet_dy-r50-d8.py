"""PSPNet on Dy-ResNet-50. Heads scale with the backbone: channels = in_channels / 4."""

_base_ = "./pspnet_r50-d8.py"
model = dict(
    backbone=dict(type="DyResNet", deep_stem=True),
    decode_head=dict(in_channels=1024, channels=256),
    auxiliary_head=dict(in_channels=512, channels=128),
)
