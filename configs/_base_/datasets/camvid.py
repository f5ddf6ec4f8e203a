# CamVid, 480x360 (360 high), in the 11 classes of the SegNet protocol. Laid out by
# tools/dataset_converters/camvid.py. What a model has to know of it, void included, is
# in `camvid_model`: `model = {{_base_.camvid_model}}` in a config on this base.
dataset_type = "CamVidDataset"
data_root = "data/camvid/"
crop_size = (240, 320)
ignore_index = 11
# From tools/analysis_tools/class_weights.py: a pole counts 3.4 times as much as the
# road (10 times in ENet, whose rule it is). The mean over the pixels of a batch is
# spelled out: in OpenMMLab's "mean", void pixels and weights together are an index
# error. So another batch_size has to be written here, not on the command line.
batch_size = 4
mean = 1 / (batch_size * crop_size[0] * crop_size[1])
class_weight = [0.98, 0.81, 2.28, 0.67, 1.74, 1.3, 2.24, 2.25, 1.6, 2.36, 2.43]
loss = dict(class_weight=class_weight, reduction="sum")
camvid_model = dict(
    data_preprocessor=dict(size=crop_size, seg_pad_val=ignore_index),
    decode_head=dict(
        num_classes=11,
        ignore_index=ignore_index,
        loss_decode=dict(**loss, loss_weight=mean),
    ),
    auxiliary_head=dict(
        num_classes=11,
        ignore_index=ignore_index,
        loss_decode=dict(**loss, loss_weight=0.4 * mean),
    ),
    # A dynamic network is as good as its static twin where it sees as much of a street
    # as in training: docs/camvid.md. Four windows cover an image.
    test_cfg=dict(mode="slide", crop_size=crop_size, stride=(160, 213)),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="Resize", scale=(480, 360), keep_ratio=True),
    dict(
        type="RandomCrop",
        crop_size=crop_size,
        cat_max_ratio=0.75,
        ignore_index=ignore_index,
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(480, 360), keep_ratio=True),
    # After Resize: predictions are compared at the size of the label map.
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale_factor=ratio, keep_ratio=True)
                for ratio in (0.75, 1.0, 1.25, 1.5)
            ],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            [dict(type="LoadAnnotations")],
            [dict(type="PackSegInputs")],
        ],
    ),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="ClassIoUMetric", iou_metrics=["mIoU"], ignore_index=ignore_index
)
test_evaluator = val_evaluator
