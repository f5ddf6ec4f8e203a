"""DDRNet-23 from scratch; classes, crop size and losses are left to the data set."""

norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        test_cfg=dict(size_divisor=8),  # other sizes are an error in DDRNet
    ),
    backbone=dict(type="DDRNet", channels=64, norm_cfg=norm_cfg),
    decode_head=dict(
        type="DDRHead",
        in_channels=64 * 4,
        channels=128,
        dropout_ratio=0.0,
        align_corners=False,
        norm_cfg=norm_cfg,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
