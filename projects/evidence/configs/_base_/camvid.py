"""CamVid, loaded in the process that trains, for SeedIterationHook."""

_base_ = "../../../../configs/_base_/datasets/camvid.py"
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
# What tools/test.py takes after --cfg-options to test in windows of the training crop.
windows = [
    "model.test_cfg.mode=slide",
    "model.test_cfg.crop_size=(240,320)",
    "model.test_cfg.stride=(160,213)",
]
