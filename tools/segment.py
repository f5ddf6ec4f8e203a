"""Colour an image, a folder of images or a video with a trained segmentor."""

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import mmcv
import numpy as np
from mmengine.device import get_device
from mmseg.apis import inference_model
from rich.progress import track

from mmseg_dynet.apis import (
    build_model,
    classes_and_palette,
    inner_datasets,
    input_channels,
    load_config,
)
from mmseg_dynet.cli import at_least, config_parser
from mmseg_dynet.deploy.kernel_reuse import KernelReuse
from mmseg_dynet.files import replacing

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
CODECS = {".avi": "MJPG", ".mp4": "mp4v"}  # of the videos that are written
VIDEOS = (*CODECS, ".m4v", ".mkv", ".mov", ".webm")


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
        help="in a video, fuse kernels on every N-th frame and keep them in between "
        "(docs/deployment.md)",
    )
    args = parser.parse_args()
    if not 0 <= args.opacity <= 1:
        parser.error(f"--opacity {args.opacity}: give a number from 0 to 1")
    if args.keep_kernels is not None and args.input.suffix.lower() not in VIDEOS:
        parser.error("--keep-kernels is for the frames of a video")
    return args


def plan(source: Path, out: Path) -> dict[Path, Path]:
    """The files to write, each with the image or video that it shows."""
    if source.is_dir():
        paths = sorted(p for p in source.glob("[!.]*") if p.suffix.lower() in IMAGES)
        targets = {out / f"{path.stem}.png": path for path in paths}
        if not paths or len(targets) < len(paths):
            raise ValueError(
                f"{source} must have images ({', '.join(IMAGES)}), and no two of one "
                "name that differ in their endings only"
            )
    elif source.is_file():
        is_video = source.suffix.lower() in VIDEOS
        for path, endings in (
            (source, (*IMAGES, *VIDEOS)),
            (out, CODECS if is_video else IMAGES),
        ):
            if path.suffix.lower() not in endings:
                raise ValueError(f"{path} must end in one of {', '.join(endings)}")
        targets = {out: source}
    else:
        raise FileNotFoundError(f"no image, folder or video at {source}")
    originals = {path.resolve() for path in (source, *targets.values())}
    if not originals.isdisjoint(path.resolve() for path in (out, *targets)):
        raise ValueError(f"{out} would overwrite the input: name another output")
    return targets


def paint_images(targets: dict[Path, Path], paint: Callable) -> int:
    for target, path in track(targets.items(), "images"):
        image = mmcv.imread(path)
        if image is None:
            raise ValueError(f"{path} cannot be read as an image")
        with replacing(target) as partial:
            if not cv2.imwrite(str(partial), paint(image, str(path))):
                raise OSError(f"{target} cannot be written")
    return len(targets)


def paint_video(path: Path, out: Path, paint: Callable) -> int:
    video = mmcv.VideoReader(str(path))
    codec = cv2.VideoWriter.fourcc(*CODECS[out.suffix.lower()])
    rate = video.fps if video.fps > 0 else 25
    count = 0
    with replacing(out) as partial:
        writer = cv2.VideoWriter(str(partial), codec, rate, video.resolution)
        frames = (frame for frame in video)  # its length may be unknown or negative
        for frame in track(frames, "frames", total=max(video.frame_cnt, 0) or None):
            writer.write(paint(frame, frame))
            count += 1
        writer.release()
        if count == 0 or not partial.is_file():
            raise ValueError(f"{path} cannot be read, or {out} cannot be written")
    if count < video.frame_cnt:  # which the header tells, or an estimate
        print(f"warning: of {video.frame_cnt} frames in {path}, {count} could be read")
    return count


def main():
    args = parse_args()
    is_video = args.input.suffix.lower() in VIDEOS
    try:
        targets = plan(args.input, args.out)
        cfg = load_config(args.config, args.cfg_options)
        model = build_model(cfg, args.checkpoint).to(get_device())
        _, data = next(inner_datasets(cfg.test_dataloader.dataset))
        # inference_model drops "LoadAnnotations", but only by this name.
        cfg.test_pipeline = [
            step for step in data.pipeline if "LoadAnnotations" not in str(step["type"])
        ]
        model.cfg = cfg  # inference_model takes its test_pipeline
        _, palette = classes_and_palette(cfg)
        palette = np.array([*palette, (0, 0, 0)])[:, ::-1]  # BGR

        def paint(image: np.ndarray, source: str | np.ndarray) -> np.ndarray:
            if is_video and input_channels(cfg) == 1:
                source = mmcv.bgr2gray(image)
            labels = inference_model(model, source).pred_sem_seg.data[0].cpu().numpy()
            colors = palette[labels.astype(int)]  # binary heads predict floats
            blended = args.opacity * colors + (1 - args.opacity) * image
            return blended.round().astype(np.uint8)

        if args.keep_kernels is not None:
            if getattr(model, "test_cfg", {}).get("mode") == "slide":
                place = "model.module" if "module" in cfg.model else "model"
                raise ValueError(
                    "this config tests in windows, all of which would get the kernels "
                    f"of the last: add --cfg-options {place}.test_cfg.mode=whole"
                )
            KernelReuse(model, args.keep_kernels)
        start = perf_counter()
        if is_video:
            count = paint_video(args.input, args.out, paint)
        else:
            count = paint_images(targets, paint)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    rate = count / (perf_counter() - start)
    what = "frames" if is_video else "images"
    print(f"{args.out}: {count} {what}, {rate:.2f} per second")


if __name__ == "__main__":
    main()
