"""Segment an image with a file that tools/deployment/export.py has written.

Needs NumPy, Pillow, and ONNX Runtime or OpenVINO: copy this file beside the model.
"""

import json
import os
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

METADATA = ("classes", "palette", "threshold")
MODES = {1: "L", 3: "RGB"}  # Pillow's, by the number of channels


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help=".onnx or .xml")
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="the coloured mask")
    parser.add_argument(
        "--opacity",
        type=float,
        default=1.0,
        help="of the mask over the image, 0 .. 1 (default: 1, the mask alone)",
    )
    args = parser.parse_args()
    if args.model.suffix == ".pt2":
        parser.error(f"{args.model} needs torch: export the model to .onnx or .xml")
    if args.out.suffix != ".png":
        parser.error(f"{args.out}: a mask is written as PNG, name it OUT.png")
    if not 0 <= args.opacity <= 1:
        parser.error(f"--opacity {args.opacity}: give a number from 0 to 1")
    for path in (args.model, args.image):
        if not path.is_file():
            parser.error(f"no file at {path}")
    return args


def load_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    metadata = session.get_modelmeta().custom_metadata_map
    return lambda x: session.run(["logits"], {"images": x})[0], shape, metadata


def load_openvino(path):
    import openvino

    core = openvino.Core()
    network = core.read_model(path)
    sides = network.inputs[0].partial_shape
    shape = [side.get_length() if side.is_static else "" for side in sides]
    names = [name for name in METADATA if network.has_rt_info(name)]
    metadata = {name: network.get_rt_info(name).astype(str) for name in names}
    # "f32": by default it computes in bfloat16, where the CPU can.
    network = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: network(images)["logits"], shape, metadata


def load_model(path):
    """Load a model.

    Returns:
        A function from images (1, C, H, W), uint8, to logits (1, N, H, W); the shape of
        its input, with names where it may vary; and classes, palette and threshold.
    """
    run, shape, texts = (load_openvino if path.suffix == ".xml" else load_onnx)(path)
    if not {"classes", "palette"} <= texts.keys():
        raise ValueError(
            f"{path} names no classes and palette: export it with "
            "tools/deployment/export.py"
        )
    return run, shape, {k: json.loads(texts[k]) for k in METADATA if k in texts}


def segment(run, shape, image, threshold):
    """Class of each pixel of an RGB image, (H, W), int."""
    _, channels, height, width = shape
    if channels not in MODES:
        raise ValueError(f"the model takes {channels} channels, not one of {[*MODES]}")
    fitting = image.convert(MODES[channels])
    if isinstance(height, int):  # otherwise a name: the size may vary
        fitting = fitting.resize((width, height), Image.Resampling.BILINEAR)
    logits = run(np.atleast_3d(fitting).transpose(2, 0, 1)[None])  # (1, C, H, W)
    if logits.shape[1] == 1:  # one logit, that of the second class
        labels = np.exp(-np.logaddexp(0, -logits[0, 0])) > threshold  # its sigmoid
    else:
        labels = logits[0].argmax(0)
    labels = Image.fromarray(labels.astype(np.int32))
    return np.asarray(labels.resize(image.size, Image.Resampling.NEAREST))


def main():
    args = parse_args()
    run, shape, metadata = load_model(args.model)
    image = ImageOps.exif_transpose(Image.open(args.image))
    if image.mode.startswith("I;16"):  # Pillow would clip to 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    labels = segment(run, shape, image, metadata.get("threshold"))

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
