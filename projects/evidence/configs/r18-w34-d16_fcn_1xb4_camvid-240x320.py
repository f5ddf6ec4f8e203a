"""Arm "narrowed": ResNet-18 at the MACs of Dy-ResNet-18."""

_base_ = "./r18-d16_fcn_1xb4_camvid-240x320.py"
model = dict(
    backbone=dict(stem_channels=34, base_channels=34),
    decode_head=dict(in_channels=272, channels=68),
    auxiliary_head=dict(in_channels=136, channels=34),
)
optim_wrapper = dict(optimizer=dict(lr=0.008))  # that of LabelMeFacade
