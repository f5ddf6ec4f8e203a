"""The runner of the CamVid study trains what is missing, and says how it ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_dynet.engine.optim_wrapper import computes_bfloat16

ROOT = Path(__file__).parents[2]


def one_line(text: str) -> str:
    """Without the line breaks of a terminal's width."""
    return " ".join(text.split())


@pytest.fixture
def camvid(tmp_path):
    """A handful of images of 48 x 64 in the layout of CamVid."""
    numbers = np.random.default_rng(0)
    root = tmp_path / "camvid"
    for split in ("train", "val"):
        for kind, shape in (("img_dir", (48, 64, 3)), ("ann_dir", (48, 64))):
            folder = root / kind / split
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = numbers.integers(0, 11, shape, np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def study(*args, **kwargs) -> subprocess.CompletedProcess:
    process = start_study(*args, **kwargs)
    try:
        stdout, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def start_study(
    tmp_path: Path,
    camvid: Path,
    iterations: int,
    *arguments: str,
    arms=("Dy-ResNet18",),
) -> subprocess.Popen:
    small = [
        f"{split}_dataloader.{option}"
        for split in ("train", "val", "test")
        for option in (
            f"dataset.data_root={camvid}",
            "num_workers=0",
            "persistent_workers=False",
        )
    ]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "tools/camvid/train_arms.py",
         "--arms", *arms, "--work-dirs", tmp_path / "work", *arguments, "--cfg-options",
         f"train_cfg.max_iters={iterations}", "train_cfg.val_interval=1",
         "train_cfg.val_begin=1",
         "default_hooks.checkpoint.interval=1", "default_hooks.logger.interval=1",
         "train_dataloader.batch_size=2", *small],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_run_is_recorded_then_skipped_and_resumed(camvid, tmp_path):
    assert study(tmp_path, camvid, 2, "--seeds", "4").returncode == 0
    folder = tmp_path / "work/dy-r18-d16-seed4"
    path = folder / "outcome.json"
    outcome = json.loads(path.read_text())
    assert [step for step, _ in outcome["curve"]] == [1, 2]
    assert outcome["curve"][1][1] == outcome["val_mIoU"]
    assert len(outcome["class_IoU"]) == 11
    assert "randomness.seed=4" in outcome["command"]
    assert outcome["seconds"] > 0
    assert outcome["command"].startswith("OMP_NUM_THREADS=1 python tools/train.py")
    bfloat16 = computes_bfloat16("cuda" if torch.cuda.is_available() else "cpu")
    assert outcome["precision"] == ("bfloat16" if bfloat16 else "float32")

    # Again: there is nothing to do.
    written = path.stat().st_mtime_ns
    assert study(tmp_path, camvid, 2, "--seeds", "4").returncode == 0
    assert path.stat().st_mtime_ns == written
    # With other options it is not the same run.
    done = study(tmp_path, camvid, 3, "--seeds", "4")
    assert done.returncode != 0
    assert "was begun by" in done.stderr and "--work-dirs" in done.stderr
    # Nor with another number of threads, which round otherwise.
    done = study(tmp_path, camvid, 2, "--seeds", "4", "--threads", "2")
    assert done.returncode != 0
    assert "OMP_NUM_THREADS=1 python" in done.stderr
    assert "OMP_NUM_THREADS=2 python" in done.stderr

    # As if it had been killed when the training was over.
    path.unlink()
    output = (folder / "output.txt").read_text()
    assert study(tmp_path, camvid, 2, "--seeds", "4").returncode == 0
    assert json.loads(path.read_text()) == outcome
    assert (folder / "output.txt").read_text() == output

    # As if it had been killed in its last validation, with its last checkpoint there.
    path.unlink()
    (log,) = folder.glob("*/vis_data/scalars.json")
    records = log.read_text().splitlines(keepends=True)
    assert "mIoU" in records[-1]
    log.write_text("".join(records[:-1]))
    assert (folder / "iter_2.pth").is_file()
    assert study(tmp_path, camvid, 2, "--seeds", "4").returncode == 0
    again = json.loads(path.read_text())
    assert again | {"seconds": 0} == outcome | {"seconds": 0}

    # Nor is it where its arithmetic differs, once it would go on.
    origin = json.loads((folder / "origin.json").read_text())
    other = json.dumps(origin | {"precision": "float16"})
    (folder / "origin.json").write_text(other)
    assert study(tmp_path, camvid, 2, "--seeds", "4").returncode == 0  # it is done
    path.unlink()
    done = study(tmp_path, camvid, 2, "--seeds", "4")
    assert done.returncode != 0
    assert "was begun in float16, and this machine computes" in one_line(done.stderr)
    (folder / "origin.json").write_text(json.dumps(origin))

    # How a run was logged does not matter, and how it was trained does.
    (config,) = folder.glob("*.py")
    text = config.read_text()
    logged = "logger=dict(interval=1"
    assert text.count(logged) == 1
    config.write_text(text.replace(logged, "logger=dict(interval=7"))
    assert study(tmp_path, camvid, 2, "--seeds", "4").returncode == 0
    assert json.loads(path.read_text())["val_mIoU"] == outcome["val_mIoU"]
    assert text.count("weight_decay=0.05") == 1
    config.write_text(text.replace("weight_decay=0.05", "weight_decay=0.06"))
    done = study(tmp_path, camvid, 2, "--seeds", "4")
    assert done.returncode != 0
    assert "with another optim_wrapper than" in one_line(done.stderr)


def test_a_run_that_fails_is_named(tmp_path):
    done = study(tmp_path, tmp_path / "nowhere", 1, "--seeds", "0")
    assert done.returncode != 0
    message = one_line(done.stderr)
    assert "dy-r18-d16-seed0 ended with exit status 1" in message
    assert not [*tmp_path.glob("work/*/outcome.json")]


def test_a_student_waits_for_its_teacher(camvid, tmp_path):
    """Named first, with a free place beside it, and yet trained second."""
    arms = ("Dy-ResNet18 (distilled)", "ResNet18")
    options = ("--seeds", "4", "--jobs", "2")
    done = study(tmp_path, camvid, 1, *options, arms=arms)
    assert done.returncode == 0, done.stderr
    student, teacher = (
        json.loads((tmp_path / f"work/{name}-seed4/outcome.json").read_text())
        for name in ("dy-r18-d16-distilled", "r18-d16")
    )
    checkpoint = tmp_path / "work/r18-d16-seed4/iter_1.pth"
    assert f"model.teacher.checkpoint={checkpoint}" in student["command"]
    assert "teacher" not in teacher["command"]
    log = (tmp_path / "work/dy-r18-d16-distilled-seed4/output.txt").read_text()
    assert "loss_distill" in log

    # The teacher's weights are thrown away, and its outcome is not.
    checkpoint.unlink()
    (tmp_path / "work/dy-r18-d16-distilled-seed4/outcome.json").unlink()
    done = study(tmp_path, camvid, 1, *options, arms=arms)
    assert done.returncode != 0
    assert "remove outcome.json beside it and train it" in one_line(done.stderr)


def test_other_options_need_a_folder_of_their_own():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "tools/camvid/train_arms.py",
         "--cfg-options", "train_cfg.max_iters=1"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
        stderr=subprocess.PIPE, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert "name a folder of their own with --work-dirs" in done.stderr


@pytest.mark.parametrize(
    "options, last",
    [((), "iter_2000.pth"), (("--cfg-options", "train_cfg.max_iters=1"), "iter_1.pth")],
)
def test_a_missing_teacher_is_named_with_the_remedy(tmp_path, options, last):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "tools/camvid/train_arms.py",
         "--arms", "Dy-ResNet18 (distilled)", "--seeds", "4",
         "--work-dirs", tmp_path / "work", *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
        stderr=subprocess.PIPE, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    message = one_line(done.stderr)
    assert f"r18-d16-seed4/{last}, the teacher of dy-r18-d16-distilled" in message
    assert "missing: train it with --arms ResNet18 --seeds 4" in message


def test_what_a_killed_runner_left_is_not_trained_twice(camvid, tmp_path):
    killed = start_study(tmp_path, camvid, 10**6, "--seeds", "4")
    try:
        while not (tmp_path / "work/dy-r18-d16-seed4/output.txt").is_file():
            assert killed.poll() is None
            sleep(0.1)
        sleep(1)  # until its training has started
        killed.kill()
        killed.communicate()
        done = study(tmp_path, camvid, 10**6, "--seeds", "4")
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
    assert done.returncode != 0
    message = one_line(done.stderr)
    assert "dy-r18-d16-seed4 is still being trained in" in message
