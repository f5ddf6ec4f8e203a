_base_ = "./dy-r18-d16_fcn_1xb4-2k_camvid-240x320.py"
model = dict(
    type="DistilledEncoderDecoder",
    teacher=dict(
        config="{{ fileDirname }}/r18-d16_fcn_1xb4-2k_camvid-240x320.py",
        # Trained by whoever trains this: --cfg-options model.teacher.checkpoint=FILE
        checkpoint=None,
    ),
    loss_distill=dict(weight=1.0, temperature=2.0),
)
