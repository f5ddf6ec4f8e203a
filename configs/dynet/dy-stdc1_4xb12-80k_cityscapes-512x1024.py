_base_ = "./fix-stdc1_4xb12-80k_cityscapes-512x1024.py"
model = dict(
    backbone=dict(_delete_=True, type="Dynamized", module={{_base_.model.backbone}})
)
