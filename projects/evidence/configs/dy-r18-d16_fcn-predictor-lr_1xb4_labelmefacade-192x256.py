"""Arm "predictor-lr": predictors learn at four times the learning rate."""

_base_ = "./dy-r18-d16_fcn_1xb4_labelmefacade-192x256.py"
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(predictor=dict(lr_mult=4.0))))
