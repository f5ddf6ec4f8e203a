# The same for mobile networks, which mmpretrain trains for 300 epochs.
_base_ = "./imagenet_bs2048_coslr_100e.py"
param_scheduler = [
    dict(type="LinearLR", start_factor=0.25, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=5, end=300),
]
train_cfg = dict(max_epochs=300)
