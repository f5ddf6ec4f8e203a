_base_ = "./pidnet-s_2xb6-120k_1024x1024-cityscapes.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="Dynamized",
        module=dict(
            type="PIDNet",
            in_channels=3,
            channels=16,
            ppm_channels=96,
            num_stem_blocks=2,
            num_branch_blocks=3,
            align_corners=False,
            norm_cfg={{_base_.norm_cfg}},
            act_cfg=dict(type="ReLU", inplace=True),
            init_cfg=None,  # see "Initial weights" in README.md
        ),
    ),
    decode_head=dict(in_channels=64, channels=64),
)
