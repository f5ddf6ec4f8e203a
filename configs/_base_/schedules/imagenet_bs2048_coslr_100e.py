# DyNet's recipe for 2048 images per step. The paper names neither epochs nor warm-up:
# 100 and 5 epochs are those of mmpretrain's schedule for this batch size.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.8, momentum=0.9, weight_decay=5e-5),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.25, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=5, end=100),
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=2048)
