_base_ = [
    "../_base_/models/fcn_r50-d8.py",
    "../_base_/datasets/synthetic_streets_128x256.py",
    "../_base_/default_runtime.py",
    "../_base_/schedules/schedule_200.py",
]
crop_size = (128, 256)
data_preprocessor = dict(size=crop_size)
loss_decode = dict(reduction="none", class_weight={{_base_.class_weight}})
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(
        type="ResNet", depth=18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
    ),
    decode_head=dict(in_channels=512, channels=128, loss_decode=loss_decode),
    auxiliary_head=dict(in_channels=256, channels=64, loss_decode=loss_decode),
)
