"""DeepLabV3+ on Dy-ResNet-50. The head scales with the backbone."""

_base_ = "./fcn_r50-d8.py"
model = dict(
    backbone=dict(type="DyResNet", deep_stem=True),
    decode_head=dict(
        _delete_=True,
        type="DepthwiseSeparableASPPHead",
        in_channels=1024,
        in_index=3,
        channels=256,
        dilations=(1, 12, 24, 36),
        c1_in_channels=128,
        c1_channels=24,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(in_channels=512, channels=128),
)
