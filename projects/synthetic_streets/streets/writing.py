"""Draw the scenes of every split and write them as Cityscapes ships its own."""

import fcntl
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
MIN_SHARE = 1e-3
"""Share of the picture that a class has to cover, to count as seen."""


def generate_synthetic_streets(
    out: Path,
    num_train: int = 48,
    num_val: int = 16,
    height: int = 128,
    width: int = 256,
    seed: int = 0,
) -> None:
    """Write a data set of synthetic streets.

    The same arguments give the same bytes, and image number i of a split does not
    depend on how many there are. The set is made under a hidden name and moved into
    place, so ``out`` is never half a set; if it already is the set that is asked for,
    it is left alone.

    Args:
        out: Folder to write, absent or empty. ``leftImg8bit`` and ``gtFine`` come to
            lie in it, with polygons, label ids and train ids.
        num_train: Number of training images, at least 4.
        num_val: Number of validation images, at least 4.
        height: Of the images, in pixels, at least 64.
        width: Of the images, in pixels, at least 128.
        seed: Of all that is random.

    Raises:
        ValueError: If an argument is too small.
        FileExistsError: If ``out`` holds anything else.
    """
    numbers = {"train": num_train, "val": num_val}
    for split, number in numbers.items():
        if number < len(RARE):
            raise ValueError(
                f"num_{split}={number}: a split needs at least {len(RARE)} images for "
                f"all 19 classes to occur"
            )
    if height < MIN_SIZE[0] or width < MIN_SIZE[1]:
        raise ValueError(
            f"images of {height}x{width}: poles and riders need at least "
            f"{MIN_SIZE[0]}x{MIN_SIZE[1]} pixels to be seen"
        )
    if seed < 0:
        raise ValueError(f"seed={seed}: it has to be 0 or more")
    recipe = json.dumps(
        dict(version=VERSION, **numbers, height=height, width=width, seed=seed)
    )
    if is_made(out, recipe):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(f".{out.name}.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # for as long as the block, or the process
        if not is_made(out, recipe):  # by another process, meanwhile
            partial = out.with_name(f".{out.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a killed process
            draw_all(partial, numbers, height, width, seed)
            (partial / RECIPE).write_text(recipe)
            partial.replace(out)
        lock.unlink(missing_ok=True)  # who waits for it finds the set made


def draw_all(
    root: Path, numbers: dict[str, int], height: int, width: int, seed: int
) -> None:
    """Write the streets of each split, their numbers given by its name."""
    for split_index, (split, number) in enumerate(numbers.items()):
        for index in track(range(number), description=f"Drawing {split} streets"):
            key = (seed, split_index, index)
            city = CITIES[split][index % len(CITIES[split])]
            write_street(root, split, city, index, draw(key, height, width))


def is_made(out: Path, recipe: str) -> bool:
    """Whether ``out`` already is the set of ``recipe``; raise if it is another."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    found = out / RECIPE
    if found.is_file() and found.read_text() == recipe:
        return True
    raise FileExistsError(
        f"{out} exists and is not the set {recipe}: delete it, or choose another folder"
    )


def draw(
    key: tuple[int, int, int], height: int, width: int
) -> tuple[list[Shape], np.ndarray]:
    """Compose a street in which every class due can be seen, and paint it.

    Args:
        key: Seed, number of the split and number of the street within it, which also
            decides which of the rare classes is due.
        height: In pixels.
        width: In pixels.

    Returns:
        The shapes in painter's order, and the (height, width, 3) RGB picture.
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
    """The labels that cover at least ``MIN_SHARE`` of the picture."""
    index = visible_shapes(shapes, height, width)
    areas: dict[str, int] = {}
    for shape, area in zip(
        shapes, np.bincount(index.ravel(), minlength=len(shapes)).tolist(), strict=True
    ):
        areas[shape.label] = areas.get(shape.label, 0) + area
    return {label for label, area in areas.items() if area >= MIN_SHARE * index.size}


def write_street(
    root: Path,
    split: str,
    city: str,
    index: int,
    street: tuple[list[Shape], np.ndarray],
) -> None:
    """Write what the archives of Cityscapes hold of one image."""
    shapes, picture = street
    stem = f"{city}_{index:06d}_000019"
    images, annotations = (
        root / kind / split / city for kind in ("leftImg8bit", "gtFine")
    )
    images.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(images / f"{stem}_leftImg8bit.png")
    objects = [
        dict(label=shape.label, polygon=shape.corners)
        for shape in shapes
        if shape.label is not None
    ]
    height, width = picture.shape[:2]
    polygons = annotations / f"{stem}_gtFine_polygons.json"
    polygons.write_text(
        json.dumps(dict(imgHeight=height, imgWidth=width, objects=objects), indent=1)
    )
    for encoding, ending in (("ids", "labelIds"), ("trainIds", "labelTrainIds")):
        label_map = annotations / f"{stem}_gtFine_{ending}.png"
        json2labelImg(str(polygons), str(label_map), encoding)
