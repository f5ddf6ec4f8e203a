"""FCN on Fix-mobile: static at the width of Dy-mobile, the control."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="DyMobileNetV2",
        num_kernels=None,
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        out_indices=(1, 2, 4, 6),
        norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
    decode_head=dict(in_channels=324, in_index=3, channels=80),
    auxiliary_head=dict(in_channels=96, in_index=2, channels=24),
)
