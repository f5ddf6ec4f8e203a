_base_ = [
    "../_base_/models/fcn_fix-r18-d16.py",
    "../_base_/datasets/synthetic_streets_128x256.py",
    "../_base_/schedules/schedule_200.py",
    "../_base_/default_runtime.py",
]
model = dict(data_preprocessor=dict(size=(128, 256)))
