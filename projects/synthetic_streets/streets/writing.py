"""Write streets as Cityscapes ships its images: PNGs, polygons and label maps."""

import json
import shutil
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import labels
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image
from rich.progress import track

from .painting import paint, visible_shapes
from .scene import RARE, RARE_LABELS, compose
from .shapes import Shape

CITIES = {"train": ("ahornstadt", "birkenau"), "val": ("cedernheim",)}
RECIPE = "recipe.json"
VERSION = 1
"""Raised whenever the same arguments give other files than before."""

MIN_SIZE = (64, 128)
"""Height and width in pixels below which poles and riders cannot be seen."""

MIN_SHARE = 1e-3
"""Share of the image that each class due must cover."""


def generate_synthetic_streets(
    out: Path,
    num_train: int = 48,
    num_val: int = 48,
    height: int = 128,
    width: int = 256,
    seed: int = 0,
) -> None:
    """Write a data set of synthetic streets.

    The same arguments give the same bytes, and image i of a split does not depend on
    how many there are. A data set that already exists is left alone, and ``out`` is
    created only when all of it has been written.

    Args:
        out: Folder to write, absent or empty.
        num_train: Number of training images, at least 4.
        num_val: Number of validation images, at least 4.
        height: Of the images, in pixels, at least 64.
        width: Of the images, in pixels, at least 128.
        seed: Of the random numbers, at least 0.

    Raises:
        ValueError: An argument is too small.
        FileExistsError: ``out`` holds something else.
    """
    if min(num_train, num_val) < len(RARE):
        raise ValueError(
            f"num_train={num_train}, num_val={num_val}: each split needs at least "
            f"{len(RARE)} images for all 19 classes to occur"
        )
    if height < MIN_SIZE[0] or width < MIN_SIZE[1]:
        raise ValueError(
            f"images of {height}x{width}: poles and riders need at least "
            f"{MIN_SIZE[0]}x{MIN_SIZE[1]} pixels to be seen"
        )
    if seed < 0:
        raise ValueError(f"seed={seed}: it must be at least 0")
    numbers = {"train": num_train, "val": num_val}
    size = dict(height=height, width=width)
    recipe = json.dumps(dict(version=VERSION, **numbers, **size, seed=seed))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        found = out / RECIPE
        if found.is_file() and found.read_text() == recipe:
            return
        raise FileExistsError(
            f"{out} exists and is not the data set {recipe}: delete it, or choose "
            "another folder"
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    for split_index, (split, number) in enumerate(numbers.items()):
        for index in track(range(number), description=f"Painting {split} streets"):
            city = CITIES[split][index % len(CITIES[split])]
            street = draw_street((seed, split_index, index), height, width)
            write_street(partial, f"{split}/{city}/{city}_{index:06d}_000019", *street)
    (partial / RECIPE).write_text(recipe)
    partial.replace(out)


def draw_street(
    key: tuple[int, int, int], height: int, width: int
) -> tuple[list[Shape], np.ndarray]:
    """Compose a street in which every class due can be seen, and paint it.

    Args:
        key: Seed, number of the split and number of the street within it, which also
            decides which of the rare classes is due.
        height: In pixels.
        width: In pixels.

    Returns:
        The shapes in painter's order, and the (height, width, 3) RGB image.
    """
    turn = key[-1] % len(RARE)
    due = {label.name for label in labels if label.trainId not in (-1, 255)}
    due -= {*RARE_LABELS} - {RARE_LABELS[turn]}
    for attempt in range(1000):
        rng = np.random.default_rng([*key, attempt])
        shapes = compose(rng, height, width, RARE[turn])
        if due <= seen_labels(shapes, height, width):
            return shapes, paint(rng, shapes, height, width)
    raise AssertionError(f"no street of {height}x{width} shows all of {sorted(due)}")


def seen_labels(shapes: list[Shape], height: int, width: int) -> set[str]:
    """Return the labels that cover at least ``MIN_SHARE`` of the image."""
    index = visible_shapes(shapes, height, width)
    areas = dict.fromkeys((shape.label for shape in shapes), 0)
    for shape, area in zip(
        shapes, np.bincount(index.ravel(), minlength=len(shapes)), strict=True
    ):
        areas[shape.label] += area
    return {label for label, area in areas.items() if area >= MIN_SHARE * index.size}


def write_street(
    root: Path, name: str, shapes: list[Shape], picture: np.ndarray
) -> None:
    """Write what the archives of Cityscapes hold of an image SPLIT/CITY/STEM."""
    image = root / f"leftImg8bit/{name}_leftImg8bit.png"
    polygons = root / f"gtFine/{name}_gtFine_polygons.json"
    for path in (image, polygons):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(image)
    objects = [
        dict(label=shape.label, polygon=shape.corners)
        for shape in shapes
        if shape.label is not None
    ]
    height, width = picture.shape[:2]
    polygons.write_text(
        json.dumps(dict(imgHeight=height, imgWidth=width, objects=objects), indent=1)
    )
    for encoding, ending in (("ids", "labelIds"), ("trainIds", "labelTrainIds")):
        label_map = root / f"gtFine/{name}_gtFine_{ending}.png"
        json2labelImg(str(polygons), str(label_map), encoding)
