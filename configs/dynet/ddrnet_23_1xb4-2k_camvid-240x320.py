_base_ = "./ddrnet_23-slim_1xb4-2k_camvid-240x320.py"
model = dict(
    backbone=dict(channels=64),
    decode_head=dict(in_channels=64 * 4, channels=128),
)
