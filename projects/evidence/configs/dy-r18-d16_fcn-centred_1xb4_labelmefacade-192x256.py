"""Arm "centred": the pooled input of predictors is centred by running statistics."""

_base_ = "./dy-r18-d16_fcn_1xb4_labelmefacade-192x256.py"
model = dict(backbone=dict(coefficients=dict(centred=True)))
