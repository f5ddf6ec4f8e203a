"""Arm "dynamic": Dy-ResNet-18."""

_base_ = "./r18-d16_1xb256_tiny-imagenet.py"
model = dict(backbone=dict(type="DyResNet"), head=dict(in_channels=256))
