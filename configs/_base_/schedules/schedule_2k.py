# For CamVid from scratch, on a CPU too: bfloat16, where the processor has it, and
# channels_last halve its time.
_base_ = "./schedule_80k.py"
optim_wrapper = dict(
    type="BFloat16OptimWrapper",
    optimizer=dict(_delete_=True, type="AdamW", lr=0.003, weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=50, end=2000, by_epoch=False),
]
train_cfg = dict(max_iters=2000, val_begin=1000, val_interval=200)
default_hooks = dict(
    logger=dict(interval=10),  # a record averages the last 10: MMEngine's window
    checkpoint=dict(interval=100, max_keep_ckpts=2),
    channels_last=dict(type="ChannelsLastHook"),
)
