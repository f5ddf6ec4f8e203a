"""Arm "twin": ResNet-18 as a classifier of Tiny-ImageNet, for pretraining."""

_base_ = [
    "../../../configs/_base_/models/classifier.py",
    "../../../configs/_base_/imagenet_runtime.py",
]
model = dict(
    data_preprocessor=dict(num_classes=200),
    # The strides are those of the segmentation networks.
    backbone=dict(
        type="mmseg.ResNet",
        depth=18,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(3,),
    ),
    head=dict(in_channels=512, num_classes=200),
)
dataset = dict(type="CustomDataset", data_root="data/tiny-imagenet-200")
loader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type="default_collate"),  # a tensor, rather than 256 small ones
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomCrop", crop_size=64, padding=8, padding_mode="reflect"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    **loader,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**dataset, data_prefix="train", pipeline=train_pipeline),
)
test_pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
val_dataloader = dict(
    **loader,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, data_prefix="val", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator
# The rate of DyNet's recipe, 0.8 for 2048 images per step, and its weight decay.
optim_wrapper = dict(
    type="BFloat16OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-5),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=40, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=4)
val_cfg = dict()
test_cfg = dict()
