_base_ = "./r18-d16_fcn_1xb4-2k_camvid-240x320.py"
model = dict(
    backbone=dict(type="ResNetV1c", base_channels=32, depth=50),
    decode_head=dict(in_channels=1024, channels=256),
    auxiliary_head=dict(in_channels=512, channels=128),
)
