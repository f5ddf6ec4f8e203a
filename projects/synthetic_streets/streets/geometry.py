"""From the street, in metres, to the picture, in pixels.

X points right, Y up and Z away from the camera, which stands at X = Z = 0, so Y = 0 is
the ground. Every object is described in metres and projected, hence sizes, overlaps
and vanishing lines are those of a street seen through a windscreen.
"""

from dataclasses import dataclass

import cv2
import numpy as np

NEAREST = 1.0
"""Depth in metres that nearer points are moved to: those behind the camera, too."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the street.

    All attributes are in pixels, except its elevation above the ground, in metres.
    """

    height: int
    width: int
    horizon: float
    vanishing_x: float
    focal: float
    elevation: float

    def project(self, points) -> np.ndarray:
        """Project (N, 3) points X, Y, Z to (N, 2) columns and rows in pixels."""
        x, y, z = np.asarray(points, dtype=float).T
        z = np.maximum(z, NEAREST)
        columns = self.vanishing_x + self.focal * x / z
        rows = self.horizon + self.focal * (self.elevation - y) / z
        return np.stack([columns, rows], axis=1)

    def ground(self, corners) -> np.ndarray:
        """Project a polygon on the ground, given as (N, 2) coordinates X, Z."""
        return self.project([(x, 0, z) for x, z in corners])

    def upright(self, outline, x: float, z: float) -> np.ndarray:
        """Project a flat figure at (x, z): (N, 2) metres to its right and upwards."""
        return self.project([(x + u, v, z) for u, v in outline])

    def half_width(self, z: float) -> float:
        """Return the metres seen to either side of the middle at the depth z."""
        return z * self.width / (2 * self.focal)


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Convex hull, (M, 2), of (N, 2) pixels."""
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(float)


def disc(x: float, y: float, radius: float, sides: int = 12) -> list:
    """Outline of a circle, ``sides`` points (x, y)."""
    angles = np.arange(sides) * 2 * np.pi / sides
    return [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]


def box(left: float, bottom: float, right: float, top: float) -> list:
    """Outline of a rectangle, 4 points (x, y)."""
    return [(left, bottom), (right, bottom), (right, top), (left, top)]
