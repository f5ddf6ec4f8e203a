"""Arm "twin": ResNet-18."""

_base_ = [
    "_base_/fcn_r18-d16.py",
    "_base_/labelmefacade.py",
    "_base_/schedule_8k.py",
]
model = {{_base_.set_model}}
optim_wrapper = dict(optimizer=dict(lr=0.008))  # the best of three
