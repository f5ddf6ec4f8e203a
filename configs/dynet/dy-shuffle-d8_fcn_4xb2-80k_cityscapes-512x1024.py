_base_ = "./shufflenet-v2-d8_fcn_4xb2-80k_cityscapes-512x1024.py"
model = dict(backbone=dict(type="DyShuffleNetV2"))
