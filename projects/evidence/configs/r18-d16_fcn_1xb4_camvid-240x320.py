"""Arm "twin": ResNet-18."""

_base_ = ["_base_/fcn_r18-d16.py", "_base_/camvid.py", "_base_/schedule_4k.py"]
loss = dict(reduction="none", class_weight={{_base_.class_weight}})
model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    decode_head=dict(num_classes=11, loss_decode=loss),
    auxiliary_head=dict(num_classes=11, loss_decode=loss),
)
