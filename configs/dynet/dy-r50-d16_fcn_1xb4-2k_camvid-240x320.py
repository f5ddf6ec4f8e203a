_base_ = "./r18-d16_fcn_1xb4-2k_camvid-240x320.py"
model = dict(
    backbone=dict(type="DyResNet", deep_stem=True, depth=50),
    decode_head=dict(in_channels=1024, channels=256),
    auxiliary_head=dict(in_channels=512, channels=128),
)
optim_wrapper = dict(optimizer=dict(lr=0.003))
