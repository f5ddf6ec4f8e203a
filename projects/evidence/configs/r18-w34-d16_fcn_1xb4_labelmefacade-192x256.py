"""Arm "narrowed": ResNet-18 at the MACs of Dy-ResNet-18.

All widths are 34/64 of ResNet-18's, stem and heads included: 1.731 GMACs for an image
of 256x344, where Dy-ResNet-18 needs 1.722.
"""

_base_ = "./r18-d16_fcn_1xb4_labelmefacade-192x256.py"
model = dict(
    backbone=dict(stem_channels=34, base_channels=34),
    decode_head=dict(in_channels=272, channels=68),
    auxiliary_head=dict(in_channels=136, channels=34),
)
optim_wrapper = dict(optimizer=dict(lr=0.008))  # the best of three
