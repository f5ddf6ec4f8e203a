_base_ = [
    "../_base_/models/fcn_r50-d8.py",
    "../_base_/datasets/camvid.py",
    "../_base_/default_runtime.py",
    "../_base_/schedules/schedule_2k.py",
]
crop_size = (240, 320)
data_preprocessor = dict(size=crop_size)
loss_decode = dict(reduction="none", class_weight={{_base_.class_weight}})
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(
        type="ResNet", depth=18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
    ),
    decode_head=dict(
        in_channels=512, channels=128, num_classes=11, loss_decode=loss_decode
    ),
    auxiliary_head=dict(
        in_channels=256, channels=64, num_classes=11, loss_decode=loss_decode
    ),
    # Four windows of the training crop cover an image.
    test_cfg=dict(mode="slide", crop_size=crop_size, stride=(160, 213)),
)
optim_wrapper = dict(optimizer=dict(lr=0.006))  # the best of four
