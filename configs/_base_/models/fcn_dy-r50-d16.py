"""FCN on Dy-ResNet-50 at output stride 16: for small images."""

_base_ = "./fcn_dy-r50-d8.py"
model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))
