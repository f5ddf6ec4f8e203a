_base_ = [
    "../_base_/models/fcn_r50-d16.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/schedule_2k.py",
    "../_base_/default_runtime.py",
]
model = {{_base_.camvid_model}}
optim_wrapper = dict(optimizer=dict(lr=0.006))  # as found for ResNet-18
