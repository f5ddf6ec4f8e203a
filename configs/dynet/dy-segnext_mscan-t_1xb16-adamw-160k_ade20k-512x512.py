_base_ = "./fix-segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py"
model = dict(
    backbone=dict(_delete_=True, type="Dynamized", module={{_base_.model.backbone}})
)
