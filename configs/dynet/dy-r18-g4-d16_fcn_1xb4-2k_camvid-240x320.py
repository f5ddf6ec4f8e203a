_base_ = "./dy-r18-d16_fcn_1xb4-2k_camvid-240x320.py"
model = dict(backbone=dict(num_kernels=4))
