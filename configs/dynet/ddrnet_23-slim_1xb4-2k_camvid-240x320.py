_base_ = [
    "../_base_/datasets/camvid.py",
    "../_base_/default_runtime.py",
    "../_base_/schedules/schedule_2k.py",
]
crop_size = (240, 320)
data_preprocessor = dict(
    type="SegDataPreProcessor",
    size=crop_size,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
norm_cfg = dict(type="SyncBN", requires_grad=True)
# At least 2 % of the pixels of a batch count, as in MMSegmentation's configs.
ohem = dict(
    type="OhemCrossEntropy",
    thres=0.9,
    min_kept=6400,
    class_weight={{_base_.class_weight}},
)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=data_preprocessor,
    backbone=dict(type="DDRNet", channels=32, norm_cfg=norm_cfg),
    decode_head=dict(
        type="DDRHead",
        in_channels=32 * 4,
        channels=64,
        num_classes=11,
        dropout_ratio=0.0,
        align_corners=False,
        norm_cfg=norm_cfg,
        loss_decode=[dict(**ohem, loss_weight=1.0), dict(**ohem, loss_weight=0.4)],
    ),
    train_cfg=dict(),
    # Four windows of the training crop cover an image.
    test_cfg=dict(mode="slide", crop_size=crop_size, stride=(160, 213)),
)
