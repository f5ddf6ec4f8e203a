"""FCN on Dy-ResNet-18. Heads scale with the backbone: channels = in_channels / 4."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(type="DyResNet", deep_stem=True, depth=18),
    decode_head=dict(in_channels=256, channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
