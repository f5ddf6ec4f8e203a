_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_bs256.py",
    "../_base_/schedules/imagenet_bs2048_coslr_300e.py",
    "../_base_/imagenet_runtime.py",
]
model = dict(
    backbone=dict(type="DyShuffleNetV2", widen_factor=1.0, out_indices=(3,)),
    head=dict(in_channels=1024),
)
