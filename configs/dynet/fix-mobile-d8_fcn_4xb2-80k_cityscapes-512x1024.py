_base_ = "./mobilenet-v2-d8_fcn-c80_4xb2-80k_cityscapes-512x1024.py"
model = dict(
    backbone=dict(type="DyMobileNetV2", num_kernels=None),
    decode_head=dict(in_channels=324),
)
