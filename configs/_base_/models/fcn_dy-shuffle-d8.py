"""FCN on Dy-shuffle (1.0) at output stride 8."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="DyShuffleNetV2",
        strides=(2, 1, 1),
        dilations=(1, 2, 4),
        out_indices=(0, 1, 2),
        norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
    decode_head=dict(in_channels=464, in_index=2, channels=116),
    auxiliary_head=dict(in_channels=232, in_index=1, channels=58),
)
