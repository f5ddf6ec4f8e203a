"""LabelMeFacade at a short side of 256 pixels, from convert_labelmefacade.py.

What a model has to know of it is `set_model`, for `model = {{_base_.set_model}}`.
"""

classes = (
    "building", "car", "door", "pavement", "road", "sky", "vegetation", "window"
)  # fmt: skip
palette = [
    [128, 0, 0], [128, 0, 128], [128, 128, 0], [128, 128, 128],
    [128, 64, 0], [0, 128, 128], [0, 128, 0], [0, 0, 128],
]  # fmt: skip
crop_size = (192, 256)
batch_size = 4
# 1 / log(1.1 + share of the pixels of the training split), scaled to a mean of 1 over
# its pixels. Pixels that are ignored count in the mean of the loss, as by default.
class_weight = [0.56, 1.87, 2.42, 1.8, 1.08, 1.21, 1.45, 1.92]
mean = 1 / (batch_size * crop_size[0] * crop_size[1])
loss = dict(class_weight=class_weight, reduction="sum")
set_model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=8, loss_decode=dict(**loss, loss_weight=mean)),
    auxiliary_head=dict(
        num_classes=8, loss_decode=dict(**loss, loss_weight=0.4 * mean)
    ),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomResize", scale=(1024, 256), ratio_range=(1.0, 1.5), keep_ratio=True
    ),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
dataset = dict(
    type="BaseSegDataset",
    metainfo=dict(classes=classes, palette=palette),
    data_prefix=dict(
        img_path="data/labelmefacade/img_dir", seg_map_path="data/labelmefacade/ann_dir"
    ),
)
splits = "projects/evidence/splits/"
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,  # for SeedIterationHook
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        **dataset,
        ann_file=splits + "labelmefacade_train.txt",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        **dataset, ann_file=splits + "labelmefacade_val.txt", pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassIoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
# The test_cfg of a test in windows of the training crop.
windows = dict(mode="slide", crop_size=(192, 256), stride=(128, 170))
