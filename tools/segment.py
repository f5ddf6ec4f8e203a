"""Colour an image, a folder of images or a video by a trained segmentor.

Prints how many frames a second that makes, reading and drawing included.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from mmengine.device import get_device
from mmengine.registry import DATASETS
from mmseg.apis import inference_model
from rich.progress import track
from torch import nn

from mmseg_dynet.analysis.gallery import colorize
from mmseg_dynet.apis import build_model
from mmseg_dynet.cli import config_parser, load_config
from mmseg_dynet.deploy import KernelReuse
from mmseg_dynet.files import replacing

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEOS = {".avi": "MJPG", ".mp4": "mp4v"}

Frame = np.ndarray  # (H, W, 3), uint8, BGR


def parse_args():
    parser = config_parser(__doc__)
    parser.add_argument("config", help="path of the config (Python: it is executed)")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("input", type=Path, help="an image, a folder or a video")
    parser.add_argument(
        "out", type=Path, help="the file or folder to write; a video as .mp4 or .avi"
    )
    parser.add_argument(
        "--opacity",
        type=float,
        default=0.5,
        help="of the colours over the image, 0 .. 1 (default: 0.5)",
    )
    parser.add_argument(
        "--keep-kernels",
        type=int,
        metavar="N",
        help="fuse kernels for every N-th frame of a video only (docs/video.md)",
    )
    return parser.parse_args()


def check(args: Namespace) -> str:
    """What the input is: "image", "folder" or "video".

    Raises:
        ValueError: It is none, or an option does not fit it.
    """
    if not args.input.exists():
        raise ValueError(f"no image, folder or video at {args.input}")
    if not 0 <= args.opacity <= 1:
        raise ValueError(f"--opacity {args.opacity}: give a number from 0 to 1")
    kind = "folder" if args.input.is_dir() else kind_of(args.input)
    if kind is None:
        raise ValueError(
            f"{args.input}: the ending says what it is, one of "
            f"{', '.join((*IMAGES, *VIDEOS))}"
        )
    if kind != "folder" and kind_of(args.out) != kind:
        endings = IMAGES if kind == "image" else tuple(VIDEOS)
        raise ValueError(
            f"{args.input} gives one {kind}, so {args.out} must end in one of "
            f"{', '.join(endings)}"
        )
    if args.keep_kernels is not None and kind != "video":
        raise ValueError("--keep-kernels is for the frames of a video")
    return kind


def kind_of(path: Path) -> str | None:
    if path.suffix.lower() in IMAGES:
        return "image"
    return "video" if path.suffix.lower() in VIDEOS else None


def read_image(path: Path) -> Frame:
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"{path} cannot be read as an image: is it whole?")
    return image


def write_image(path: Path, image: Frame) -> None:
    with replacing(path) as partial:
        cv2.imwrite(str(partial), image)


def segment_folder(folder: Path, out: Path, paint: Callable[[Frame], Frame]) -> int:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    if not paths:
        raise ValueError(f"no image in {folder}: endings are {', '.join(IMAGES)}")
    out.mkdir(parents=True, exist_ok=True)
    for path in track(paths, "images"):
        write_image(out / f"{path.stem}.png", paint(read_image(path)))
    return len(paths)


@contextmanager
def opened(path: Path) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(str(path))
    try:
        yield video
    finally:
        video.release()


def frames_of(video: cv2.VideoCapture) -> Iterable[Frame]:
    while True:
        there_is_one, frame = video.read()
        if not there_is_one:
            return
        yield frame


def segment_video(path: Path, out: Path, paint: Callable[[Frame], Frame]) -> int:
    count, writer = 0, None
    with opened(path) as video, replacing(out) as partial:
        rate = video.get(cv2.CAP_PROP_FPS)
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) or None
        for frame in track(frames_of(video), "frames", total=total):
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                code = cv2.VideoWriter.fourcc(*VIDEOS[out.suffix.lower()])
                writer = cv2.VideoWriter(str(partial), code, rate, size)
            writer.write(paint(frame))
            count += 1
        if writer is None:
            raise ValueError(f"{path} has no frame that can be read: is it whole?")
        writer.release()
    return count


def painter(
    model: nn.Module, palette: list, opacity: float
) -> Callable[[Frame], Frame]:
    def paint(frame: Frame) -> Frame:
        labels = inference_model(model, frame).pred_sem_seg.data[0].cpu().numpy()
        colors = colorize(labels, palette)[..., ::-1]
        return np.round(opacity * colors + (1 - opacity) * frame).astype(np.uint8)

    return paint


def segment(
    kind: str, args: Namespace, model: nn.Module, paint: Callable[[Frame], Frame]
) -> int:
    """Write the output, and return the number of frames."""
    if kind == "folder":
        return segment_folder(args.input, args.out, paint)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "image":
        write_image(args.out, paint(read_image(args.input)))
        return 1
    every = args.keep_kernels
    with nullcontext() if every is None else KernelReuse(model, every):
        return segment_video(args.input, args.out, paint)


def main():
    args = parse_args()
    try:
        kind = check(args)
        cfg = load_config(args.config, args.cfg_options)
        model = build_model(cfg, args.checkpoint).to(get_device())
        model.cfg = cfg  # inference_model asks for its pipeline
        dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True))
        paint = painter(model, dataset.metainfo["palette"], args.opacity)
        start = perf_counter()
        count = segment(kind, args, model, paint)
        rate = count / (perf_counter() - start)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {count} frames, {rate:.2f} a second")


if __name__ == "__main__":
    main()
