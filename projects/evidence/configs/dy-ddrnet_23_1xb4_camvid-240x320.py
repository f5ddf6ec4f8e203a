"""Arm "dynamic": DDRNet-23 at half its channels, made dynamic."""

_base_ = "./ddrnet_23-slim_1xb4_camvid-240x320.py"
model = dict(
    backbone=dict(_delete_=True, type="Dynamized", module={{_base_.model.backbone}})
)
optim_wrapper = dict(optimizer=dict(lr=0.008))  # the best of three
