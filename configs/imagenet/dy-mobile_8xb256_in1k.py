_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_bs256.py",
    "../_base_/schedules/imagenet_bs2048_coslr_300e.py",
    "../_base_/imagenet_runtime.py",
]
model = dict(
    backbone=dict(type="DyMobileNetV2", out_indices=(7,)),
    head=dict(in_channels=1280),
)
