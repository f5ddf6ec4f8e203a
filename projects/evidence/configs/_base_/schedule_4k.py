"""From scratch on one core: bfloat16 where the processor has it, channels_last."""

_base_ = [
    "../../../../configs/_base_/schedules/schedule_2k.py",
    "../../../../configs/_base_/default_runtime.py",
]
custom_imports = dict(imports=["mmseg_dynet", "pairing"], allow_failed_imports=False)
custom_hooks = [dict(type="SeedIterationHook")]
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=100, max_keep_ckpts=2)
)
# One pass over the weights instead of seven; needs torch 2.4 on CPUs.
optim_wrapper = dict(optimizer=dict(fused=True))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=50, end=4000, by_epoch=False),
]
train_cfg = dict(max_iters=4000, val_begin=2000, val_interval=400)
