"""From shapes to pictures: which shape each pixel shows, and what it looks like."""

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .shapes import Shape

SCALE = 3
"""Colours are drawn this much larger and averaged: edges are soft, as in a photo."""


def visible_shapes(shapes: list[Shape], height: int, width: int) -> np.ndarray:
    """Return (height, width) indices of the shapes that are seen.

    They are drawn by the same calls as the label maps of cityscapesscripts, so that
    the two agree to the pixel.
    """
    canvas = Image.new("I", (width, height))
    drawer = ImageDraw.Draw(canvas)
    for index, shape in enumerate(shapes):
        if shape.label is not None:
            drawer.polygon(shape.corners, fill=index)
    return np.asarray(canvas)


def paint(
    rng: np.random.Generator, shapes: list[Shape], height: int, width: int
) -> np.ndarray:
    """Paint shapes, with texture, haze, light and noise: (height, width, 3) RGB."""
    index = visible_shapes(shapes, height, width)
    picture = flat_colours(shapes, height, width)
    picture *= 1 + texture(rng, shapes, index)[..., None]
    picture = add_haze(rng, picture, shapes, index)
    picture *= light(rng, height, width)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 0.7))
    picture += rng.normal(0, rng.uniform(0.012, 0.03), picture.shape)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def flat_colours(shapes: list[Shape], height: int, width: int) -> np.ndarray:
    """Draw shapes and strokes: (height, width, 3), 0 to 1."""
    canvas = Image.new("RGB", (width * SCALE, height * SCALE))
    drawer = ImageDraw.Draw(canvas)
    for shape in shapes:
        fill = tuple(round(255 * channel) for channel in shape.colour)
        corners = enlarge(shape.polygon)
        drawer.polygon(corners, fill=fill)
        # At the size of the label map, the outline itself is one pixel wide.
        drawer.line([*corners, corners[0]], fill=fill, width=SCALE)
        for polygon, colour in shape.strokes:
            fill = tuple(round(255 * channel) for channel in colour)
            drawer.polygon(enlarge(polygon), fill=fill)
    small = canvas.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, dtype=float) / 255


def enlarge(polygon: np.ndarray) -> list[tuple[float, float]]:
    """Move the corners of a polygon to the canvas of ``flat_colours``."""
    return [tuple(corner) for corner in (polygon * SCALE + SCALE // 2).tolist()]


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, rows: float, columns: float
) -> np.ndarray:
    """Noise of unit variance whose blobs are ``rows`` high and ``columns`` wide."""
    size = max(2, round(height / rows)), max(2, round(width / columns))
    noise = cv2.resize(
        rng.normal(size=size), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return noise / noise.std()


def texture(
    rng: np.random.Generator, shapes: list[Shape], index: np.ndarray
) -> np.ndarray:
    """Return the relative brightness (H, W) of each pixel, 0 in the mean."""
    size = index.shape
    unit = size[0] / 128  # textures grow with the picture
    grain = rng.normal(size=size)
    rows = np.arange(size[0])[:, None] / unit
    fields = {
        "plain": smooth_noise(rng, *size, 12 * unit, 12 * unit),
        "grain": 0.8 * grain + 0.6 * smooth_noise(rng, *size, 6 * unit, 14 * unit),
        "leaves": 0.8 * smooth_noise(rng, *size, 2.5 * unit, 2.5 * unit)
        + 0.5 * smooth_noise(rng, *size, 7 * unit, 8 * unit),
        "grass": 0.7 * smooth_noise(rng, *size, 3 * unit, 1.2 * unit) + 0.4 * grain,
        "brick": 0.7 * np.sign(np.sin(rows * 2 * np.pi / 3)) + 0.6 * grain,
        "clouds": smooth_noise(rng, *size, 14 * unit, 40 * unit),
    }
    names = list(fields)
    chosen = np.array([names.index(shape.texture) for shape in shapes])[index]
    strengths = np.array([shape.strength for shape in shapes])[index]
    return np.choose(chosen, list(fields.values())) * strengths


def add_haze(
    rng: np.random.Generator,
    picture: np.ndarray,
    shapes: list[Shape],
    index: np.ndarray,
) -> np.ndarray:
    """Fade what is far away into the colour of the haze."""
    depths = [np.nan if shape.depth is None else shape.depth for shape in shapes]
    depth = np.array(depths)[index]
    haze = rng.uniform(0.65, 0.85) * np.array([0.95, 0.98, 1.03])
    share = 1 - np.exp(-np.nan_to_num(depth, nan=0.0) / rng.uniform(90, 250))
    return picture + (haze - picture) * share[..., None]


def light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return gains (height, width, 3): exposure, tint, shadows and vignetting."""
    exposure = rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, 3)
    shadows = 1 + 0.07 * smooth_noise(rng, height, width, height / 2, width / 3)
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = 1 - 0.12 * (rows**2 + columns**2)
    return exposure * (shadows * vignette)[..., None]
