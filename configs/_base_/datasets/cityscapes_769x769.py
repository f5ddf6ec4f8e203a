# Cityscapes, 769x769 crops. Images grow by one pixel to 2049x1025, as in
# MMSegmentation: with align_corners, sizes of 8n + 1 keep the grids of all strides
# aligned.
_base_ = "./cityscapes.py"
crop_size = (769, 769)
train_pipeline = [
    dict(type="SeedAugmentation"),
    dict(type="CheckFiles"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=19),
    dict(
        type="RandomResize",
        scale=(2049, 1025),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="CheckFiles"),
    dict(type="Resize", scale=(2049, 1025), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=19),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
