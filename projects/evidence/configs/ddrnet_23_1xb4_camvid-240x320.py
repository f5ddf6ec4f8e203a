"""Arm "twin": DDRNet-23."""

_base_ = ["_base_/ddrnet_23.py", "_base_/camvid.py", "_base_/schedule_4k.py"]
# At least 2 % of the pixels of a batch count, as in MMSegmentation's configs.
ohem = dict(
    type="OhemCrossEntropy",
    thres=0.9,
    min_kept=6400,
    class_weight={{_base_.class_weight}},
)
model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    decode_head=dict(
        num_classes=11,
        loss_decode=[dict(**ohem, loss_weight=1.0), dict(**ohem, loss_weight=0.4)],
    ),
)
