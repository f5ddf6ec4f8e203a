"""Images, folders and videos are coloured as the model predicts them."""

import os
import resource
import runpy
import subprocess
import sys
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

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
CONFIG = ROOT / "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"
SIZE = (64, 96)
TOOL = runpy.run_path(str(ROOT / "tools/segment.py"), run_name="tool")


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


@pytest.fixture
def refusal(monkeypatch):
    """Let the tool refuse its arguments, and return what it says."""

    def refuse(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["segment.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            TOOL["main"]()
        assert exit_.value.code.startswith("error: ")
        return exit_.value.code

    return refuse


@contextmanager
def files_end_at(size: int):
    """Let no file grow beyond so many bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def contents_of(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, hidden files too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def invert(frame: np.ndarray) -> np.ndarray:
    return 255 - frame


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
        ("cut.png", "text.txt/out.png", (), "text.txt"),
    ],
)
def test_what_cannot_be_segmented_is_named(
    source, out, options, message, checkpoint, tmp_path, refusal
):
    for name in ("text.txt", "cut.png", "cut.avi"):
        (tmp_path / name).write_bytes(b"cut off")
    (tmp_path / "empty").mkdir()
    before = contents_of(tmp_path)
    error = refusal(CONFIG, checkpoint, tmp_path / source, tmp_path / out, *options)
    assert message in error
    assert contents_of(tmp_path) == before


def test_a_missing_config_or_checkpoint_is_named(pictures, tmp_path, refusal):
    arguments = (tmp_path / "no.pth", pictures, tmp_path / "out")
    assert "no config file at no.py" in refusal("no.py", *arguments)
    assert f"no checkpoint at {arguments[0]}" in refusal(CONFIG, *arguments)
    assert not arguments[2].exists()


@pytest.mark.parametrize("name", ["pictures", "pictures/a.png", "video.avi"])
def test_an_original_is_never_overwritten(name, pictures, tmp_path, refusal):
    source = tmp_path / name
    link = tmp_path / f"link{source.suffix}"
    link.symlink_to(source)
    detour = tmp_path / "pictures/.." / name
    before = contents_of(tmp_path)
    for read, write in (
        (source, source), (source, detour), (source, link), (link, source),
    ):  # fmt: skip
        error = refusal("CONFIG", "CHECKPOINT", read, write)
        assert f"{write} is the input, which would be overwritten" in error
        assert "name another output" in error
    assert contents_of(tmp_path) == before


def test_originals_behind_the_links_of_a_folder_are_never_overwritten(
    pictures, tmp_path, refusal
):
    links = tmp_path / "links"
    links.mkdir()
    (links / "a.png").symlink_to(pictures / "b.png")
    (links / "b.jpg").symlink_to(pictures / "a.png")
    before = contents_of(tmp_path)
    error = refusal("CONFIG", "CHECKPOINT", links, pictures)
    assert f"{pictures / 'a.png'} and the input {links / 'b.jpg'} are one file" in error
    assert contents_of(tmp_path) == before


def test_two_images_of_a_name_are_refused(pictures, tmp_path, refusal):
    (pictures / "a.jpg").touch()
    (pictures / "a.txt").touch()
    error = refusal("CONFIG", "CHECKPOINT", pictures, tmp_path / "out")
    names = f"{pictures / 'a.jpg'} and {pictures / 'a.png'}"
    assert f"{names} would both become {tmp_path / 'out/a.png'}: rename one" in error


def test_a_folder_is_not_written_to_a_file_nor_a_file_to_a_folder(
    pictures, tmp_path, refusal
):
    file, folder = tmp_path / "out.png", tmp_path / "folder.png"
    file.touch()
    folder.mkdir()
    for source, out, wanted in (
        (pictures, file, "folder"), (pictures / "a.png", folder, "file"),
    ):  # fmt: skip
        error = refusal("CONFIG", "CHECKPOINT", source, out)
        assert f"{out} exists and is no {wanted}: name another output" in error


def test_an_image_that_does_not_fit_on_the_disk_leaves_what_was_there(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    path = tmp_path / "out.PNG"
    TOOL["write_image"](path, invert(image))
    before = contents_of(tmp_path)
    message = r"out\.PNG cannot be written \(File too large\)"
    with files_end_at(1000), pytest.raises(OSError, match=message):
        TOOL["write_image"](path, image)
    assert contents_of(tmp_path) == before
    TOOL["write_image"](path, image)
    assert np.array_equal(cv2.imread(str(path)), image)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("out.jpg", "65500|does not say"), ("out.xyz", "could not find encoder")],
)
def test_an_image_that_its_format_cannot_hold_is_named(name, reason, tmp_path):
    image = np.zeros((65501, 1, 3), np.uint8)
    with pytest.raises(ValueError, match=f"{name}: .* write 65501x1 .*({reason})"):
        TOOL["write_image"](tmp_path / name, image)
    assert contents_of(tmp_path) == {}


@pytest.mark.parametrize(("ending", "kept"), [(".avi", 1), (".mp4", 0)])
def test_a_video_that_does_not_fit_on_the_disk_leaves_what_was_there(
    ending, kept, pictures, tmp_path
):
    out = tmp_path / f"out/painted{ending}"
    out.parent.mkdir()
    out.write_bytes(b"before")
    arguments = (tmp_path / "video.avi", out, invert)
    message = rf"painted\{ending} cannot be written \({kept} of its 3 frames are on"
    with files_end_at(10_000), pytest.raises(OSError, match=message):
        TOOL["segment_video"](*arguments)
    assert contents_of(out.parent) == {out.name: b"before"}
    assert TOOL["segment_video"](*arguments) == 3
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_video_in_a_folder_that_is_gone_is_named(pictures, tmp_path):
    out = tmp_path / "gone/out.mp4"
    message = r"gone/out\.mp4 cannot be written \(No such file"
    with pytest.raises(OSError, match=message):
        TOOL["segment_video"](tmp_path / "video.avi", out, invert)


@pytest.fixture
def say(monkeypatch):
    """Let all videos that are read say something else of themselves."""
    capture = cv2.VideoCapture

    class Video:
        def __init__(self, path: str, properties: dict[int, float]):
            self.video, self.properties = capture(path), properties

        def get(self, key: int) -> float:
            return self.properties.get(key, self.video.get(key))

        def __getattr__(self, name: str) -> object:
            return getattr(self.video, name)

    def say(key: int, value: float) -> None:
        monkeypatch.setattr(cv2, "VideoCapture", lambda path: Video(path, {key: value}))

    return say


@pytest.mark.parametrize(("said", "written"), [(0.0, 25), (-1.0, 25), (12.0, 12)])
def test_a_video_of_unknown_rate_is_written(
    said, written, pictures, tmp_path, say, monkeypatch
):
    out = tmp_path / "out.avi"
    say(cv2.CAP_PROP_FPS, said)
    assert TOOL["segment_video"](tmp_path / "video.avi", out, invert) == 3
    monkeypatch.undo()
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == written


@pytest.mark.parametrize("announced", [0, 3, 5])
def test_a_video_that_breaks_off_is_reported(
    announced, pictures, tmp_path, say, capsys
):
    say(cv2.CAP_PROP_FRAME_COUNT, announced)
    arguments = (tmp_path / "video.avi", tmp_path / "out.avi", invert)
    assert TOOL["segment_video"](*arguments) == 3
    warned = (
        "video.avi announces 5 frames, of which 3 could be read"
        in capsys.readouterr().err
    )
    assert warned == (announced == 5)


def test_a_rate_that_a_format_cannot_hold_is_named(pictures, tmp_path, say):
    before = contents_of(tmp_path)
    say(cv2.CAP_PROP_FPS, 90_000.0)
    message = r"out\.mp4: OpenCV cannot write 64x96 pixels, 90000 times .* of \.avi"
    with pytest.raises(ValueError, match=message):
        TOOL["segment_video"](tmp_path / "video.avi", tmp_path / "out.mp4", invert)
    assert contents_of(tmp_path) == before


def test_kernels_are_not_kept_from_window_to_window(tmp_path):
    args = Namespace(input=Path("in.mp4"), out=tmp_path / "out.mp4", keep_kernels=2)
    model = SimpleNamespace(test_cfg={"mode": "slide"})
    with pytest.raises(ValueError, match=r"windows.*model\.test_cfg\.mode=whole"):
        TOOL["segment"]("video", args, model, None)
