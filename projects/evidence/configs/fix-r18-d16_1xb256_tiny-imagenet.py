"""Arm "control": static at the width of Dy-ResNet-18."""

_base_ = "./r18-d16_1xb256_tiny-imagenet.py"
model = dict(backbone=dict(base_channels=32), head=dict(in_channels=256))
