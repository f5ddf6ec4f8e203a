"""Twice the iterations of schedule_4k.py."""

_base_ = "./schedule_4k.py"
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=50, end=8000, by_epoch=False),
]
train_cfg = dict(max_iters=8000, val_begin=4000, val_interval=800)
