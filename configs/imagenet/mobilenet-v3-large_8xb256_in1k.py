_base_ = [
    "../_base_/models/classifier_mobilenet-v3.py",
    "../_base_/datasets/imagenet_bs256.py",
    "../_base_/schedules/imagenet_bs2048_coslr_300e.py",
    "../_base_/imagenet_runtime.py",
]
# mmpretrain's, strided and padded as in segmentation: MMSegmentation's is dilated.
model = dict(
    backbone=dict(
        type="MobileNetV3", arch="large", conv_cfg=dict(type="Conv2dAdaptivePadding")
    ),
    head=dict(in_channels=960, mid_channels=[1280]),
)
