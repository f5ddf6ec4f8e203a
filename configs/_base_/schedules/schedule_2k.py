# For CamVid from scratch, on a CPU too: bfloat16, where the processor has it, and
# channels_last halve the time.
optimizer = dict(type="AdamW", lr=0.003, weight_decay=0.05)
optim_wrapper = dict(type="BFloat16OptimWrapper", optimizer=optimizer, clip_grad=None)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=50, end=2000, by_epoch=False),
]
# Shorter runs need another val_begin, or they are never validated.
train_cfg = dict(
    type="IterBasedTrainLoop", max_iters=2000, val_begin=1000, val_interval=200
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="SafeCheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=2
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
    channels_last=dict(type="ChannelsLastHook"),
    check_setup=dict(type="CheckSetupHook"),
    finite_loss=dict(type="FiniteLossHook"),
)
