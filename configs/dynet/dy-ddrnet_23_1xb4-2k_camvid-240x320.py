_base_ = "./ddrnet_23-slim_1xb4-2k_camvid-240x320.py"
model = dict(
    backbone=dict(_delete_=True, type="Dynamized", module={{_base_.model.backbone}})
)
