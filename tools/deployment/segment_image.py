"""Segment an image with a model that tools/deployment/export.py has written to ONNX.

Needs NumPy, Pillow and ONNX Runtime, and nothing else: copy this file beside the model.
"""

import json
import os
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="the coloured mask")
    parser.add_argument(
        "--opacity",
        type=float,
        default=1.0,
        help="of the mask over the image, 0 .. 1 (default: 1, the mask alone)",
    )
    args = parser.parse_args()
    if args.out.suffix != ".png":
        parser.error(f"{args.out}: a mask is written as PNG, name it OUT.png")
    if not 0 <= args.opacity <= 1:
        parser.error(f"--opacity {args.opacity}: give a number from 0 to 1")
    for path in (args.model, args.image):
        if not path.is_file():
            parser.error(f"no file at {path}")
    return args


def load_model(path):
    """Load a session, and the classes and palette that it was exported with."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    if not {"classes", "palette"} <= metadata.keys():
        raise ValueError(
            f"{path} names no classes and palette: export it with "
            "tools/deployment/export.py"
        )
    return session, json.loads(metadata["classes"]), json.loads(metadata["palette"])


def segment(session, image):
    """Class of each pixel of an RGB image, (H, W), int."""
    height, width = session.get_inputs()[0].shape[2:]
    fitting = image
    if isinstance(height, int):  # else a name: the size may vary
        fitting = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(fitting).transpose(2, 0, 1)[None]  # (1, 3, H, W)
    (logits,) = session.run(["logits"], {"images": pixels})
    labels = Image.fromarray(logits[0].argmax(0).astype(np.int32))
    return np.asarray(labels.resize(image.size, Image.Resampling.NEAREST))


def main():
    args = parse_args()
    session, classes, palette = load_model(args.model)
    image = ImageOps.exif_transpose(Image.open(args.image)).convert("RGB")
    labels = segment(session, image)

    mask = Image.fromarray(np.array(palette, dtype=np.uint8)[labels])
    partial = args.out.with_name(f".{args.out.stem}.{os.getpid()}.partial.png")
    Image.blend(image, mask, args.opacity).save(partial)
    os.replace(partial, args.out)

    shares = np.bincount(labels.ravel(), minlength=len(classes)) / labels.size
    for index in np.argsort(-shares, kind="stable"):
        if shares[index] > 0:
            print(f"{shares[index]:6.1%}  {classes[index]}")


if __name__ == "__main__":
    main()
