"""Images, folders and videos are coloured as the model predicts them."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import save_checkpoint
from mmseg.apis import MMSegInferencer
from mmseg.registry import DATASETS

from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import load_config

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/fcn/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
SIZE = (64, 96)


def segment(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/segment.py", CONFIG,
         *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    cfg = load_config(str(CONFIG))
    model = build_model(cfg)
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True))
    content = dict(
        state_dict=model.state_dict(), meta=dict(dataset_meta=dataset.metainfo)
    )
    path = tmp_path_factory.mktemp("checkpoint") / "model.pth"
    save_checkpoint(content, str(path))
    return path


@pytest.fixture
def pictures(tmp_path):
    """A folder of two images, and a video of three frames."""
    numbers = np.random.default_rng(0)
    frames = [numbers.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(3)]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, frame in zip(("b", "a"), frames, strict=False):
        cv2.imwrite(str(folder / f"{name}.png"), frame)
    video = cv2.VideoWriter(
        str(tmp_path / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, SIZE[::-1]
    )
    for frame in frames:
        video.write(frame)
    video.release()
    return folder


@pytest.mark.filterwarnings("ignore:Failed to add")  # the host: no folder for logs
def test_a_folder_is_painted_as_the_hosts_inferencer_predicts(
    pictures, checkpoint, tmp_path
):
    done = segment(checkpoint, pictures, tmp_path / "out", "--opacity", 1)
    assert done.returncode == 0, done.stderr
    assert "2 frames, " in done.stdout
    inferencer = MMSegInferencer(str(CONFIG), str(checkpoint), device="cpu")
    palette = np.array(inferencer.visualizer.dataset_meta["palette"])
    for name in ("a", "b"):
        path = str(pictures / f"{name}.png")
        labels = inferencer(path, show=False)["predictions"]
        found = cv2.imread(str(tmp_path / f"out/{name}.png"))
        assert np.array_equal(found[..., ::-1], palette[labels])


def test_an_image_is_blended(pictures, checkpoint, tmp_path):
    image = cv2.imread(str(pictures / "a.png")).astype(float)
    outs = []
    for opacity in (1, 0.25):
        out = tmp_path / f"{opacity}.png"
        done = segment(checkpoint, pictures / "a.png", out, "--opacity", opacity)
        assert done.returncode == 0, done.stderr
        outs.append(cv2.imread(str(out)).astype(float))
    colors, blended = outs
    assert np.abs(blended - (0.25 * colors + 0.75 * image)).max() <= 0.5


def test_a_video_keeps_its_frames(pictures, checkpoint, tmp_path):
    out = tmp_path / "out/painted.avi"
    done = segment(checkpoint, tmp_path / "video.avi", out, "--keep-kernels", 2)
    assert done.returncode == 0, done.stderr
    assert "3 frames, " in done.stdout
    video = cv2.VideoCapture(str(out))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert video.get(cv2.CAP_PROP_FPS) == 5
    assert video.read()[1].shape == (*SIZE, 3)


@pytest.mark.parametrize(
    ("source", "out", "options", "message"),
    [
        ("nothing.png", "out.png", (), "no image, folder or video at"),
        ("text.txt", "out.png", (), "the ending says what it is, one of .bmp"),
        ("cut.png", "out.png", (), "cut.png cannot be read as an image"),
        ("cut.png", "out.mp4", (), "gives one image, so"),
        ("cut.avi", "out.avi", (), "cut.avi has no frame that can be read"),
        ("empty", "out", (), "no image in"),
        ("cut.png", "out.png", ("--keep-kernels", 2), "for the frames of a video"),
        ("cut.png", "out.png", ("--opacity", 2), "a number from 0 to 1"),
    ],
)
def test_what_cannot_be_segmented_is_named(
    source, out, options, message, checkpoint, tmp_path
):
    for name in ("text.txt", "cut.png", "cut.avi"):
        (tmp_path / name).write_bytes(b"cut off")
    (tmp_path / "empty").mkdir()
    done = segment(checkpoint, tmp_path / source, tmp_path / out, *options)
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / out).exists()
