"""Arm "constant": coefficients that are learned, but the same for all images."""

_base_ = "./dy-r18-d16_fcn_1xb4_labelmefacade-192x256.py"
custom_imports = dict(
    imports=["mmseg_dynet", "pairing", "constant"], allow_failed_imports=False
)
custom_hooks = [dict(type="SeedIterationHook"), dict(type="ConstantCoefficientsHook")]
