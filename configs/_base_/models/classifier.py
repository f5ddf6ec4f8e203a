"""Image classifier: global average pooling and one linear layer."""

model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(
        type="ClsDataPreprocessor",
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1),
        topk=(1, 5),
    ),
)
