# PIDNet-M at half its channels. Its control is pidnet-s. Both start as the same
# function: from_static makes banks of the weights that the control starts from.
_base_ = "./pidnet-s_2xb6-120k_1024x1024-cityscapes.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="Dynamized",
        module={{_base_.model.backbone}},
        from_static=True,
    )
)
