_base_ = "./segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py"
model = dict(
    # init_cfg: see "Initial weights" in README.md
    backbone=dict(embed_dims=[16, 32, 80, 128], init_cfg=None),
    decode_head=dict(in_channels=[32, 80, 128], channels=128, ham_channels=128),
)
