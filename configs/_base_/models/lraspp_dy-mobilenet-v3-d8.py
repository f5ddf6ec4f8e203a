"""LR-ASPP on Dy-MobileNetV3-Large, of the static network's width, output stride 8."""

_base_ = "./lraspp_mobilenet-v3-d8.py"
model = dict(
    backbone=dict(
        type="DyMobileNetV3",
        strides=(1, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4),
        out_indices=(0, 1, 6),
    ),
)
