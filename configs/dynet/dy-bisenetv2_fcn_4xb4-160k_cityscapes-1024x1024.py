_base_ = "./fix-bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py"
model = dict(
    backbone=dict(_delete_=True, type="Dynamized", module={{_base_.model.backbone}})
)
