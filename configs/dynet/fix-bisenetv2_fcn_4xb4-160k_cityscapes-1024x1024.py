_base_ = "./bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py"
model = dict(
    backbone=dict(
        detail_channels=(32, 32, 64), semantic_channels=(8, 16, 32, 64), bga_channels=64
    ),
    decode_head=dict(in_channels=64, channels=512),
    auxiliary_head=[
        dict(
            type="FCNHead",
            in_channels=in_channels,
            channels=channels,
            num_convs=2,
            num_classes=19,
            in_index=index,
            norm_cfg={{_base_.norm_cfg}},
            concat_input=False,
            align_corners=False,
            loss_decode=dict(
                type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0
            ),
        )
        for index, in_channels, channels in (
            (1, 8, 8),
            (2, 16, 32),
            (3, 32, 128),
            (4, 64, 512),
        )
    ],
)
