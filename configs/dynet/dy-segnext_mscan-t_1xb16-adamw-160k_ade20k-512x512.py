_base_ = "./segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="Dynamized",
        module=dict(
            type="MSCAN",
            init_cfg=None,  # see "Initial weights" in README.md
            embed_dims=[16, 32, 80, 128],
            mlp_ratios=[8, 8, 4, 4],
            drop_rate=0.0,
            drop_path_rate=0.1,
            depths=[3, 3, 5, 2],
            attention_kernel_sizes=[5, [1, 7], [1, 11], [1, 21]],
            attention_kernel_paddings=[2, [0, 3], [0, 5], [0, 10]],
            act_cfg=dict(type="GELU"),
            norm_cfg=dict(type="BN", requires_grad=True),
        ),
    ),
    decode_head=dict(in_channels=[32, 80, 128], channels=128, ham_channels=128),
)
