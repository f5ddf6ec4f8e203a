"""Images, folders and videos are coloured as the model predicts them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmseg.apis import MMSegInferencer
from mmseg.models.utils import resize
from mmseg.registry import DATASETS

from mmseg_dynet.apis import build_model, load_config

SIZE = (64, 96)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of two images, and a video of three frames beside it."""
    numbers = np.random.default_rng(0)
    frames = [numbers.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(3)]
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "._a.png").touch()  # as macOS leaves them
    for name, frame in zip(("b", "a"), frames, strict=False):
        cv2.imwrite(str(folder / f"{name}.png"), frame)
    video = cv2.VideoWriter(
        str(tmp_path / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, SIZE[::-1]
    )
    for frame in frames:
        video.write(frame)
    video.release()
    return folder


@pytest.fixture
def segment(run_tool, write_config, save_weights):
    config = write_config("dy-")
    weights = save_weights(config)
    return lambda *arguments: run_tool("segment.py", config, weights, *arguments)


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def palette() -> np.ndarray:
    dataset = DATASETS.build(dict(type="CityscapesDataset", lazy_init=True))
    return np.array(dataset.metainfo["palette"])


@pytest.mark.filterwarnings("ignore:Failed to add")  # the host: no folder for logs
@pytest.mark.filterwarnings("ignore:dataset_meta or class names")
def test_a_folder_is_painted_as_the_hosts_inferencer_predicts(
    run_tool, write_config, save_weights, pictures, palette
):
    config = write_config("dy-")
    weights = save_weights(config)
    printed = run_tool("segment.py", config, weights, pictures, "out", "--opacity", 1)
    assert "2 images, " in printed
    inferencer = MMSegInferencer(str(config), str(weights), device="cpu")
    for name in ("a", "b"):
        labels = inferencer(str(pictures / f"{name}.png"), show=False)["predictions"]
        found = cv2.imread(f"out/{name}.png")
        assert np.array_equal(found[..., ::-1], palette[labels])


def test_a_binary_network_paints_two_colours(
    run_tool, write_config, save_weights, pictures
):
    config = write_config("dy-", binary=True)
    run_tool("segment.py", config, save_weights(config), "pictures/a.png", "out.png",
             "--opacity", 1)  # fmt: skip
    found = cv2.imread("out.png")[..., ::-1].reshape(-1, 3)
    assert {*map(tuple, found.tolist())} == {(128, 64, 128), (244, 35, 232)}


def test_images_and_videos_are_read_in_grey_for_a_network_of_one_channel(
    run_tool, write_config, save_weights, pictures, palette
):
    config = write_config("dy-", grey=True)
    weights = save_weights(config)
    run_tool("segment.py", config, weights, "pictures/a.png", "out.png", "--opacity", 1)
    model = build_model(load_config(str(config)), str(weights))
    grey = cv2.imread("pictures/a.png", cv2.IMREAD_GRAYSCALE)
    with torch.no_grad():
        logits = model((torch.from_numpy(grey)[None, None] - 120.0) / 60.0)
    labels = resize(logits, size=SIZE, mode="bilinear")[0].argmax(0).numpy()
    assert np.array_equal(cv2.imread("out.png")[..., ::-1], palette[labels])
    assert "3 frames, " in run_tool("segment.py", config, weights, "video.avi", "o.avi")


def test_an_image_is_blended(segment, pictures, tmp_path):
    image = cv2.imread(str(pictures / "a.png")).astype(float)
    outs = []
    for opacity in (1, 0.25):
        out = tmp_path / f"{opacity}.png"
        segment(pictures / "a.png", out, "--opacity", opacity)
        outs.append(cv2.imread(str(out)).astype(float))
    colors, blended = outs
    assert np.abs(blended - (0.25 * colors + 0.75 * image)).max() <= 0.5


def test_frames_between_key_frames_keep_their_kernels(
    run_tool, write_config, save_weights, vary, pictures
):
    config = write_config("dy-")
    weights = save_weights(config, vary)
    painted = []
    for options in ((), ("--keep-kernels", 2)):
        arguments = (config, weights, "video.avi", "out.avi", "--opacity", 1, *options)
        run_tool("segment.py", *arguments)
        video = cv2.VideoCapture("out.avi")
        painted.append([video.read()[1] for _ in range(3)])
    same = [np.array_equal(*frames) for frames in zip(*painted, strict=True)]
    assert same == [True, False, True]


def test_a_phones_video_keeps_its_frames(segment, pictures, tmp_path):
    out = tmp_path / "out/painted.mp4"
    Path("video.avi").rename("video.mov")  # decoders look inside
    assert "3 frames, " in segment("video.mov", out)
    video = cv2.VideoCapture(str(out))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert video.get(cv2.CAP_PROP_FPS) == 5
    assert video.read()[1].shape == (*SIZE, 3)


def test_a_video_that_is_cut_off_is_named(segment, pictures):
    content = Path("video.avi").read_bytes()
    Path("short.avi").write_bytes(content[: len(content) * 3 // 4])
    printed = segment("short.avi", "out.avi")
    assert "of 3 frames in short.avi, 2 could be read" in printed


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("nothing.png", "out.png", "no image, folder or video at nothing.png"),
        ("text.txt", "out.png", "text.txt must end in one of .bmp"),
        ("cut.png", "out.mp4", "out.mp4 must end in one of .bmp"),
        ("cut.png", "out.png", "cut.png cannot be read as an image"),
        ("cut.avi", "out.avi", "cut.avi cannot be read"),
        ("empty", "out", "empty must have images"),
        ("twins", "out", "differ in their endings only"),
        ("pictures", "pictures", "pictures would overwrite the input"),
        ("pictures/a.png", "link.png", "link.png would overwrite the input"),
        ("links", "pictures", "pictures would overwrite the input"),
        ("video.avi", "pictures/../video.avi", "video.avi would overwrite the input"),
    ],
)
def test_what_cannot_be_segmented_is_named_and_nothing_is_written(
    source, out, message, segment, pictures, tmp_path
):
    for name in ("text.txt", "cut.png", "cut.avi", "twins/a.jpg", "twins/a.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"cut off")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.png").symlink_to(pictures / "a.png")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/a.png").symlink_to(pictures / "b.png")
    (tmp_path / "links/b.jpg").symlink_to(pictures / "a.png")
    before = contents_of(tmp_path)
    with pytest.raises(SystemExit, match="error: ") as exit_:
        segment(source, out)
    assert message in str(exit_.value)
    assert contents_of(tmp_path) == before


def test_kernels_are_not_kept_from_window_to_window(segment, pictures):
    with pytest.raises(SystemExit, match=r"windows.*model\.test_cfg\.mode=whole"):
        segment("video.avi", "out.mp4", "--keep-kernels", 2, "--cfg-options",
                "model.test_cfg.mode=slide")  # fmt: skip
