_base_ = "./pspnet_r50-d8_4xb2-80k_cityscapes-769x769.py"
model = dict(
    pretrained=None,  # see "Initial weights" in README.md
    backbone=dict(base_channels=32, depth=18),
    decode_head=dict(in_channels=256, channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
