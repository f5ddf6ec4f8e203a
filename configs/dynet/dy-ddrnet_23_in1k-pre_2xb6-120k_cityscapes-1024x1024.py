# DDRNet-23 at half its channels. Its control is ddrnet_23-slim. Both start as the same
# function: from_static makes banks of the weights that the control starts from.
_base_ = "./ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="Dynamized",
        module={{_base_.model.backbone}},
        from_static=True,
    )
)
