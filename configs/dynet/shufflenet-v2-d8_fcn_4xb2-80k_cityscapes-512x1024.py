_base_ = [
    "../_base_/models/fcn_r50-d8.py",
    "../_base_/datasets/cityscapes.py",
    "../_base_/default_runtime.py",
    "../_base_/schedules/schedule_80k.py",
]
crop_size = (512, 1024)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type="ShuffleNetV2",
        strides=(2, 1, 1),
        dilations=(1, 2, 4),
        out_indices=(0, 1, 2),
        norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
    decode_head=dict(in_channels=464, in_index=2, channels=116),
    auxiliary_head=dict(in_channels=232, in_index=1, channels=58),
)
