_base_ = "./pidnet-s_2xb6-120k_1024x1024-cityscapes.py"
model = dict(
    # init_cfg: see "Initial weights" in README.md
    backbone=dict(channels=16, init_cfg=None),
    decode_head=dict(in_channels=64, channels=64),
)
