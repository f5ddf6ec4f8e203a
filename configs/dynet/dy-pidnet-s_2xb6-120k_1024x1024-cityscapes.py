_base_ = "./fix-pidnet-s_2xb6-120k_1024x1024-cityscapes.py"
model = dict(
    backbone=dict(_delete_=True, type="Dynamized", module={{_base_.model.backbone}})
)
