"""A student learns from a teacher that nothing else sees."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_dynet.apis import build_model
from mmseg_dynet.deploy import fold_bn, optimize_for_inference
from mmseg_dynet.models.distillation import DistillationLoss

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs/fcn"
TEACHER = CONFIGS / "r18-d16_fcn_1xb4-2k_camvid-240x320.py"
PLAIN = CONFIGS / "dy-r18-d16_fcn_1xb4-2k_camvid-240x320.py"
DISTILLED = CONFIGS / "dy-r18-d16_fcn-distilled_1xb4-2k_camvid-240x320.py"
SIZE = (32, 64)


def narrow(path: Path, **model) -> Config:
    """A config with a backbone of width 8, and without dropout."""
    cfg = Config.fromfile(path)
    heads = dict(
        decode_head=dict(in_channels=64, channels=8, dropout_ratio=0),
        auxiliary_head=dict(in_channels=32, channels=8, dropout_ratio=0),
    )
    cfg.merge_from_dict(dict(model=dict(backbone=dict(base_channels=8), **heads)))
    cfg.merge_from_dict(dict(model=model))
    return cfg


@pytest.fixture
def teacher(tmp_path, draw_norms):
    """A teacher, as the options that a student takes."""
    return save_teacher(narrow(TEACHER), tmp_path, draw_norms)


def save_teacher(cfg: Config, folder: Path, draw_norms) -> dict:
    torch.manual_seed(1)
    model = build_model(cfg)
    draw_norms(model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    config, checkpoint = str(folder / "teacher.py"), str(folder / "teacher.pth")
    cfg.dump(config)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return dict(config=config, checkpoint=checkpoint)


def build_student(teacher: dict, **model):
    torch.manual_seed(0)
    return build_model(narrow(DISTILLED, teacher=teacher, **model))


def batch(void: bool = False) -> dict:
    """Two images, whose labels may all be void."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, 3, *SIZE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(11, (2, 1, *SIZE), generator=generator)
    labels = torch.full_like(labels, 11) if void else labels
    sizes = dict(img_shape=SIZE, ori_shape=SIZE)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=sizes)
        for label in labels
    ]
    return dict(inputs=list(images), data_samples=samples)


def losses_of(model, data: dict) -> dict:
    data = model.data_preprocessor(data, training=True)
    return model(**data, mode="loss")


def divergence_by_hand(student, teacher, temperature: float) -> float:
    """Hinton et al., section 2, in float64."""

    def softmax(logits):
        e = np.exp(np.asarray(logits, np.float64) / temperature)
        return e / e.sum(1, keepdims=True)

    p, q = softmax(teacher), softmax(student)
    return temperature**2 * (p * np.log(p / q)).sum(1).mean()


@pytest.mark.parametrize("temperature", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_is_that_by_hand(temperature, dtype):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 3, 4).to(dtype).unbind()
    loss = DistillationLoss(weight=3, temperature=temperature)(student, teacher)
    expected = 3 * divergence_by_hand(student.float(), teacher.float(), temperature)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert DistillationLoss()(student, student) == 0


def test_the_gradient_keeps_its_size_when_the_temperature_grows():
    """At high T it nears (student - teacher) / N, logits less their mean (eq. 4)."""
    torch.manual_seed(0)
    student = torch.randn(1, 5, 1, 1).requires_grad_()
    teacher = torch.randn(1, 5, 1, 1)
    DistillationLoss(temperature=1e3)(student, teacher).backward()
    difference = (student - teacher).detach()
    expected = (difference - difference.mean()) / 5
    torch.testing.assert_close(student.grad, expected, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("void", [False, True])
def test_losses_are_the_plain_ones_and_the_divergence(teacher, void):
    student = build_student(teacher)
    plain = build_model(narrow(PLAIN))
    plain.load_state_dict(student.state_dict())  # names and shapes are the same
    static = build_model(Config.fromfile(teacher["config"]), teacher["checkpoint"])
    data = batch(void)
    images = plain.data_preprocessor(batch(void), training=True)["inputs"]
    with torch.no_grad():
        losses = losses_of(student, data)
        expected = losses_of(plain, batch(void))
        logits = plain(images), static(images)
    distilled = losses.pop("loss_distill")
    assert losses == expected
    assert distilled.item() == pytest.approx(divergence_by_hand(*logits, 2), rel=1e-4)
    assert distilled > 0.1


def test_logits_of_another_stride_are_resized(teacher):
    """A student of half the stride has logits of twice the sides."""
    options = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    student = build_student(teacher, backbone=options)
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        logits, target = student(images), student._teach(images, torch.Size((4, 8)))
        assert logits.shape[2:] == target.shape[2:] == (4, 8)
        coarse = student.teacher(images)
        assert coarse.shape[2:] == (2, 4)
        losses = losses_of(student, batch())
    expected = torch.nn.functional.interpolate(coarse, (4, 8), mode="bilinear")
    assert torch.equal(target, expected)
    assert losses["loss_distill"] > 0


def test_the_teacher_is_read_when_training_begins_and_then_left_alone(teacher):
    student = build_student(teacher)
    saved = torch.load(teacher["checkpoint"])["state_dict"]
    assert not torch.equal(student.teacher.state_dict()["backbone.conv1.weight"],
                           saved["backbone.conv1.weight"])  # fmt: skip
    student.init_weights()
    student.train()
    wrapper = build_optim_wrapper(
        student, dict(optimizer=dict(type="SGD", lr=0.1, weight_decay=0.1))
    )
    before = copy.deepcopy(student.state_dict())
    for _ in range(2):
        student.train_step(batch(), wrapper)
    assert not student.teacher.training
    assert not any(module.training for module in student.teacher.modules())
    assert not any(p.requires_grad for p in student.teacher.parameters())
    for name, weight in student.teacher.state_dict().items():
        assert torch.equal(weight, saved[name]), name
    moved = [n for n, p in student.named_parameters() if not torch.equal(p, before[n])]
    assert moved == [n for n, _ in student.named_parameters()]


def test_the_student_alone_is_in_the_module_tree(teacher):
    student, plain = build_student(teacher), build_model(narrow(PLAIN))
    assert list(student.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(student.state_dict())
    student.load_state_dict(plain.state_dict())
    for listed in ("named_parameters", "named_buffers"):
        ours, theirs = ([n for n, _ in getattr(m, listed)()] for m in (student, plain))
        assert ours == theirs
    data = batch()
    with torch.no_grad():
        (ours, _), (theirs, _) = (m.test_step(data) for m in (student, plain))
    assert torch.equal(ours.seg_logits.data, theirs.seg_logits.data)


def test_a_student_starts_as_it_would_alone(teacher):
    student = build_student(teacher)
    torch.manual_seed(0)
    plain = build_model(narrow(PLAIN))
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, student.state_dict()[name]), name


def test_the_teacher_follows_the_images(teacher):
    student = build_student(teacher)
    expected = losses_of(student, batch())["loss_distill"].item()
    student.double()
    data = student.data_preprocessor(batch(), training=True)
    data["inputs"] = data["inputs"].double()
    assert student(**data, mode="loss")["loss_distill"].item() == pytest.approx(
        expected, rel=1e-4
    )
    assert {p.dtype for p in student.teacher.parameters()} == {torch.double}


@pytest.mark.parametrize(
    "convert",
    [
        lambda student: fold_bn(student).double(),
        lambda student: optimize_for_inference(student),
        lambda student: copy.deepcopy(student).to("meta"),
    ],
    ids=["double", "optimized", "meta"],
)
def test_a_copy_that_is_converted_leaves_the_teacher_alone(teacher, convert):
    student = build_student(teacher)
    expected = losses_of(student, batch())["loss_distill"]
    kernel = student.teacher.backbone.layer1[0].conv1.weight
    convert(student)
    assert kernel.dtype == torch.float32 and kernel.is_contiguous()
    assert torch.equal(losses_of(student, batch())["loss_distill"], expected)


def test_copies_share_the_teacher(teacher):
    student = build_student(teacher)
    assert copy.deepcopy(student).teacher is student.teacher
    average = ExponentialMovingAverage(student)
    average.update_parameters(student)
    assert average.module.teacher is student.teacher
    assert not any("teacher" in name for name in average.state_dict())


def test_it_trains_in_distributed_data_parallel(teacher, tmp_path):
    """Without find_unused_parameters: a second step fails if one had no gradient."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        student = build_student(teacher)
        student.train()
        wrapped = MMDistributedDataParallel(student)
        wrapper = build_optim_wrapper(wrapped, dict(optimizer=dict(type="SGD", lr=0.1)))
        losses = [wrapped.train_step(batch(), wrapper) for _ in range(6)]
    finally:
        torch.distributed.destroy_process_group()
    assert losses[-1]["loss_distill"] < losses[0]["loss_distill"]


def test_the_config_is_the_plain_one_with_a_teacher():
    cfg, plain = Config.fromfile(DISTILLED), Config.fromfile(PLAIN)
    model = cfg.model.to_dict()
    assert model.pop("type") == "DistilledEncoderDecoder"
    assert model.pop("teacher") == dict(config=str(TEACHER), checkpoint=None)
    model.pop("loss_distill")
    assert model == {k: v for k, v in plain.model.to_dict().items() if k != "type"}
    assert {**cfg, "model": 0} == {**plain, "model": 0}
    init_default_scope("mmseg")
    student = MODELS.build(cfg.model)
    assert student(torch.randn(1, 3, *SIZE)).shape == (1, 11, 2, 4)


def test_a_missing_checkpoint_stops_the_training(teacher):
    student = build_student(dict(config=teacher["config"], checkpoint=None))
    for start in (student.init_weights, lambda: losses_of(student, batch())):
        with pytest.raises(ValueError, match=r"model\.teacher\.checkpoint=FILE"):
            start()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            dict(data_preprocessor=dict(bgr_to_rgb=False)),
            r"\.bgr_to_rgb is True for .*0",
        ),
        (dict(data_preprocessor=dict(mean=[0, 0, 0])), r"\.mean is \[123.*the same$"),
        (
            dict(decode_head=dict(num_classes=5), auxiliary_head=dict(num_classes=5)),
            "gives 11 classes, the teacher's 5",
        ),
    ],
    ids=["channels", "mean", "classes"],
)
def test_a_teacher_that_does_not_fit_is_refused(change, match, tmp_path, draw_norms):
    teacher = save_teacher(narrow(TEACHER, **change), tmp_path, draw_norms)
    with pytest.raises(ValueError, match=match):
        build_student(teacher)


# Its output is a tuple, of logits for three losses.
DUAL_ATTENTION = dict(
    _delete_=True, type="DAHead", pam_channels=4, in_channels=64, in_index=3,
    channels=8, num_classes=11, norm_cfg=dict(type="BN"), align_corners=False,
    loss_decode=dict(type="CrossEntropyLoss"),
)  # fmt: skip


def test_heads_with_more_than_logits_are_refused(teacher, tmp_path, draw_norms):
    with pytest.raises(
        ValueError, match="student's decode head, DAHead, has a loss_by"
    ):
        build_student(teacher, decode_head=dict(DUAL_ATTENTION))
    dual = narrow(TEACHER, decode_head=dict(DUAL_ATTENTION))
    dual.dump(str(tmp_path / "dual.py"))
    with pytest.raises(
        ValueError, match="teacher's decode head, DAHead, has a predict"
    ):
        build_student(dict(config=str(tmp_path / "dual.py")))


@pytest.mark.parametrize("option", ["weight", "temperature"])
def test_a_bad_option_is_named(option):
    with pytest.raises(ValueError, match=f"{option}=0 must be greater than 0"):
        DistillationLoss(**{option: 0})


def test_it_trains_through_the_training_tool(synthetic_streets, tmp_path, draw_norms):
    streets = "{}r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
    teacher = save_teacher(narrow(CONFIGS / streets.format("")), tmp_path, draw_norms)
    plain = narrow(CONFIGS / streets.format("dy-"))
    cfg = copy.deepcopy(plain)
    cfg.merge_from_dict(
        dict(model=dict(type="DistilledEncoderDecoder", teacher=teacher))
    )
    cfg.dump(str(tmp_path / "student.py"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/train.py",
         tmp_path / "student.py", "--work-dir", tmp_path / "run", "--cfg-options",
         "train_cfg.max_iters=2", "train_cfg.val_interval=2",
         "default_hooks.checkpoint.interval=2", "default_hooks.logger.interval=1",
         *(f"{split}_dataloader.{option}" for split in ("train", "val", "test")
           for option in (f"dataset.data_root={synthetic_streets}", "num_workers=0",
                          "persistent_workers=False"))],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    log = done.stdout + done.stderr
    assert len(re.findall(r"Iter\(train\).* loss_distill: \d+\.\d+", log)) == 2
    assert "mIoU: " in log
    build_model(plain, str(tmp_path / "run/iter_2.pth"))  # strictly
