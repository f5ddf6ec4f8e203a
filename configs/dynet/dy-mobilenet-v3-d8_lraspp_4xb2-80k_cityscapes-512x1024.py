_base_ = "./mobilenet-v3-d8_lraspp_4xb2-80k_cityscapes-512x1024.py"
model = dict(
    pretrained=None,  # see "Initial weights" in README.md
    backbone=dict(
        type="DyMobileNetV3",
        strides=(1, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4),
        out_indices=(0, 1, 6),
    ),
)
