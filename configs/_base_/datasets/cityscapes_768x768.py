# Cityscapes, 768x768 crops: the training size of the DyNet paper. Images keep their
# own 2048x1024, in training and in the test pipeline of the base.
_base_ = "./cityscapes.py"
crop_size = (768, 768)
train_pipeline = [
    dict(type="SeedAugmentation"),
    dict(type="CheckFiles"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=19),
    dict(
        type="RandomResize",
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
