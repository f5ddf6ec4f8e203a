"""Arm "narrowed": ResNet-18 at the MACs of Dy-ResNet-18."""

_base_ = "./r18-d16_1xb256_tiny-imagenet.py"
model = dict(
    backbone=dict(stem_channels=34, base_channels=34), head=dict(in_channels=272)
)
