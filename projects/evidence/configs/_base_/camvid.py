"""CamVid, loaded in the process that trains, for SeedIterationHook."""

_base_ = "../../../../configs/_base_/datasets/camvid.py"
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
# The test_cfg of a test in windows of the training crop.
windows = dict(mode="slide", crop_size=(240, 320), stride=(160, 213))
