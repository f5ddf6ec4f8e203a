_base_ = [
    "../_base_/models/classifier_mobilenet-v3.py",
    "../_base_/datasets/imagenet_bs256.py",
    "../_base_/schedules/imagenet_bs2048_coslr_300e.py",
    "../_base_/imagenet_runtime.py",
]
model = dict(
    backbone=dict(type="DyMobileNetV3", arch="large"),
    head=dict(in_channels=960, mid_channels=[1280]),
)
