_base_ = "./r50-d8_fcn-oneconv_4xb2-80k_cityscapes-768x768.py"
model = dict(
    backbone=dict(type="DyResNet"),
    decode_head=dict(in_channels=1024, channels=256),
    auxiliary_head=dict(in_channels=512, channels=128),
)
