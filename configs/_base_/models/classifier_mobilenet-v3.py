"""Image classifier of MobileNetV3: a hidden layer, and norms as in its release."""

_base_ = "./classifier.py"
model = dict(
    backbone=dict(norm_cfg=dict(type="BN", eps=0.001, momentum=0.01)),
    head=dict(
        type="StackedLinearClsHead",
        dropout_rate=0.2,
        act_cfg=dict(type="HSwish"),
        init_cfg=dict(type="Normal", layer="Linear", mean=0.0, std=0.01, bias=0.0),
    ),
)
