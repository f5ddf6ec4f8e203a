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

MODES = {1: "L", 3: "RGB"}  # Pillow's, by the number of channels


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
    """Load a session, and the classes, palette and threshold of its metadata."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    if not {"classes", "palette"} <= texts.keys():
        raise ValueError(
            f"{path} names no classes and palette: export it with "
            "tools/deployment/export.py"
        )
    return session, {key: json.loads(text) for key, text in texts.items()}


def segment(session, image, threshold):
    """Class of each pixel of an RGB image, (H, W), int."""
    _, channels, height, width = session.get_inputs()[0].shape
    if channels not in MODES:
        raise ValueError(f"the model takes {channels} channels, not one of {[*MODES]}")
    fitting = image.convert(MODES[channels])
    if isinstance(height, int):  # otherwise a name: the size may vary
        fitting = fitting.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.atleast_3d(fitting).transpose(2, 0, 1)[None]  # (1, C, H, W)
    (logits,) = session.run(["logits"], {"images": pixels})
    if logits.shape[1] == 1:  # one logit, that of the second class
        labels = np.exp(-np.logaddexp(0, -logits[0, 0])) > threshold  # its sigmoid
    else:
        labels = logits[0].argmax(0)
    labels = Image.fromarray(labels.astype(np.int32))
    return np.asarray(labels.resize(image.size, Image.Resampling.NEAREST))


def main():
    args = parse_args()
    session, metadata = load_model(args.model)
    image = ImageOps.exif_transpose(Image.open(args.image)).convert("RGB")
    labels = segment(session, image, metadata.get("threshold"))

    classes, palette = metadata["classes"], metadata["palette"]
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
