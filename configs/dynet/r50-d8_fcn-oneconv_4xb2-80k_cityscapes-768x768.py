# The dilated FCN of DyNet's table 3: a plain stem and a head of one convolution.
_base_ = [
    "../_base_/models/fcn_r50-d8.py",
    "../_base_/datasets/cityscapes_768x768.py",
    "../_base_/default_runtime.py",
    "../_base_/schedules/schedule_80k.py",
]
crop_size = (768, 768)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(type="ResNet"),
    decode_head=dict(num_convs=1, concat_input=False),
)
