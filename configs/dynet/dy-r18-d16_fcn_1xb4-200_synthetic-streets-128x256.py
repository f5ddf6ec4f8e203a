_base_ = "./r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
model = dict(
    backbone=dict(type="DyResNet"),
    decode_head=dict(in_channels=256),
    auxiliary_head=dict(in_channels=128),
)
