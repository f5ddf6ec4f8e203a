_base_ = "./pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py"
model = dict(
    pretrained=None,  # see "Initial weights" in README.md
    backbone=dict(type="DyResNet", deep_stem=True),
    decode_head=dict(in_channels=1024, channels=256),
    auxiliary_head=dict(in_channels=512, channels=128),
)
