_base_ = "./stdc1_4xb12-80k_cityscapes-512x1024.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="Dynamized",
        module=dict(
            type="STDCContextPathNet",
            backbone_cfg=dict(
                type="STDCNet",
                stdc_type="STDCNet1",
                in_channels=3,
                channels=(32, 64, 128, 256, 512),
                bottleneck_type="cat",
                num_convs=4,
                norm_cfg={{_base_.norm_cfg}},
                act_cfg=dict(type="ReLU"),
                with_final_conv=False,
            ),
            last_in_channels=(512, 256),
            out_channels=64,
            ffm_cfg=dict(in_channels=192, out_channels=128, scale_factor=4),
        ),
    ),
    decode_head=dict(in_channels=128, channels=128),
    auxiliary_head=[
        *(
            dict(
                type="FCNHead",
                in_channels=64,
                channels=32,
                num_convs=1,
                num_classes=19,
                in_index=index,
                norm_cfg={{_base_.norm_cfg}},
                concat_input=False,
                align_corners=False,
                sampler=dict(type="OHEMPixelSampler", thresh=0.7, min_kept=10000),
                loss_decode=dict(
                    type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0
                ),
            )
            for index in (2, 1)
        ),
        dict(
            type="STDCHead",
            in_channels=128,
            channels=32,
            num_convs=1,
            num_classes=2,
            boundary_threshold=0.1,
            in_index=0,
            norm_cfg={{_base_.norm_cfg}},
            concat_input=False,
            align_corners=True,
            loss_decode=[
                dict(
                    type="CrossEntropyLoss",
                    loss_name="loss_ce",
                    use_sigmoid=True,
                    loss_weight=1.0,
                ),
                dict(type="DiceLoss", loss_name="loss_dice", loss_weight=1.0),
            ],
        ),
    ],
)
