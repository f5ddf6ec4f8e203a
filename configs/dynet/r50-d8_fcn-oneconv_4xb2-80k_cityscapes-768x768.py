_base_ = [
    "../_base_/models/fcn-oneconv_r50-d8.py",
    "../_base_/datasets/cityscapes_768x768.py",
    "../_base_/schedules/schedule_80k.py",
    "../_base_/default_runtime.py",
]
model = dict(data_preprocessor=dict(size=(768, 768)))
