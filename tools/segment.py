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
from mmseg_dynet.cli import at_least, config_parser, load_config
from mmseg_dynet.deploy.kernel_reuse import KernelReuse, check_whole_frames
from mmseg_dynet.files import replacing

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEOS = {".avi": "MJPG", ".mp4": "mp4v"}
RATE = 25.0  # frames a second of a video that does not say

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
        type=at_least(1),
        metavar="N",
        help="fuse kernels for every N-th frame of a video only (docs/video.md)",
    )
    return parser.parse_args()


def check(args: Namespace) -> str:
    """What the input is: "image", "folder" or "video".

    Raises:
        ValueError: It is none, the output or an option does not fit it, or an original
            would be overwritten.
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
    if args.out.exists():
        check_existing(args.out, args.input)
    if kind == "folder":
        targets_of(args.input, args.out)
    return kind


def check_existing(out: Path, source: Path) -> None:
    if out.samefile(source):
        raise ValueError(
            f"{out} is the input, which would be overwritten: name another output"
        )
    if out.is_dir() != source.is_dir():
        wanted = "folder" if source.is_dir() else "file"
        raise ValueError(f"{out} exists and is no {wanted}: name another output")


def targets_of(folder: Path, out: Path) -> dict[Path, Path]:
    """The files to write for a folder, each with the image that it is made of.

    Raises:
        ValueError: The folder has no image, two images would become the same file, or
            one would overwrite an original that a link in the folder leads to.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    if not paths:
        raise ValueError(f"no image in {folder}: endings are {', '.join(IMAGES)}")
    originals = {path.resolve(): path for path in paths}
    targets: dict[Path, Path] = {}
    for path in paths:
        target = out / f"{path.stem}.png"
        if target in targets:
            raise ValueError(
                f"{targets[target]} and {path} would both become {target}: rename one"
            )
        if (original := originals.get(target.resolve())) is not None:
            raise ValueError(
                f"{target} and the input {original} are one file, which would be "
                "overwritten: name another folder"
            )
        targets[target] = path
    return targets


def kind_of(path: Path) -> str | None:
    if path.suffix.lower() in IMAGES:
        return "image"
    return "video" if path.suffix.lower() in VIDEOS else None


def read_image(path: Path) -> Frame:
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"{path} cannot be read as an image: is it whole?")
    return image


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """:func:`replacing`, whose errors name ``path`` and not the hidden file."""
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}): make room and see "
            "that you may write there, or name another output"
        ) from error


def write_image(path: Path, image: Frame) -> None:
    content = encode(path, image)  # in memory: imwrite does not say why it fails
    with writing(path) as partial:
        partial.write_bytes(content)


def encode(path: Path, image: Frame) -> bytes:
    reason = "it does not say why"
    try:
        done, content = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        done, reason = False, error.err
    if not done:
        height, width = image.shape[:2]
        raise ValueError(
            f"{path}: OpenCV cannot write {height}x{width} pixels as {path.suffix} "
            f"({reason}): name another ending, such as .png"
        )
    return content.tobytes()


def segment_folder(folder: Path, out: Path, paint: Callable[[Frame], Frame]) -> int:
    targets = targets_of(folder, out)
    out.mkdir(parents=True, exist_ok=True)
    for target, path in track(targets.items(), "images"):
        write_image(target, paint(read_image(path)))
    return len(targets)


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


def open_writer(partial: Path, out: Path, frame: Frame, rate: float) -> cv2.VideoWriter:
    """Open ``partial``, of which ``out`` is made, for frames like this one."""
    partial.touch()  # OpenCV would not say why it cannot
    height, width = frame.shape[:2]
    code = cv2.VideoWriter.fourcc(*VIDEOS[out.suffix.lower()])
    writer = cv2.VideoWriter(str(partial), code, rate, (width, height))
    if not writer.isOpened():
        raise ValueError(
            f"{out}: OpenCV cannot write {height}x{width} pixels, {rate:g} times a "
            f"second, as {out.suffix}: name another ending, of {', '.join(VIDEOS)}"
        )
    return writer


def check_written(partial: Path, count: int) -> None:
    """Read the frames again: OpenCV writes on without a word when a disk is full."""
    with opened(partial) as video:
        whole = sum(1 for _ in frames_of(video))
    if whole != count:
        raise OSError(f"{whole} of its {count} frames are on the disk")


def segment_video(path: Path, out: Path, paint: Callable[[Frame], Frame]) -> int:
    count, writer = 0, None
    with opened(path) as video, writing(out) as partial:
        said = video.get(cv2.CAP_PROP_FPS)
        rate = said if said > 0 else RATE
        total = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))) or None
        for frame in track(frames_of(video), "frames", total=total):
            if writer is None:
                writer = open_writer(partial, out, frame, rate)
            writer.write(paint(frame))
            count += 1
        if writer is None:
            raise ValueError(f"{path} has no frame that can be read: is it whole?")
        writer.release()
        check_written(partial, count)
        if total is not None and count < total:
            print(
                f"warning: {path} announces {total} frames, of which {count} could be "
                "read: is it whole?",
                file=sys.stderr,
            )
    return count


def painter(
    model: nn.Module, palette: list, opacity: float
) -> Callable[[Frame], Frame]:
    def paint(frame: Frame) -> Frame:
        labels = inference_model(model, frame).pred_sem_seg.data[0].cpu().numpy()
        # Of one logit for two classes the host makes floats.
        colors = colorize(labels.astype(np.int64), palette)[..., ::-1]
        return np.round(opacity * colors + (1 - opacity) * frame).astype(np.uint8)

    return paint


def segment(
    kind: str, args: Namespace, model: nn.Module, paint: Callable[[Frame], Frame]
) -> int:
    """Write the output, and return the number of frames.

    Raises:
        ValueError: Kernels are to be kept, and frames to be cut into windows.
    """
    if kind == "folder":
        return segment_folder(args.input, args.out, paint)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "image":
        write_image(args.out, paint(read_image(args.input)))
        return 1
    every = args.keep_kernels
    if every is not None:
        check_whole_frames(model)
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
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {count} frames, {rate:.2f} a second")


if __name__ == "__main__":
    main()
