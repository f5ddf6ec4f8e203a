_base_ = [
    "../_base_/models/fcn_fix-r50-d16.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/schedule_2k.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(240, 320), seg_pad_val=11),
    decode_head=dict(num_classes=11, ignore_index=11, loss_decode={{_base_.loss}}),
    auxiliary_head=dict(
        num_classes=11, ignore_index=11, loss_decode={{_base_.auxiliary_loss}}
    ),
)
