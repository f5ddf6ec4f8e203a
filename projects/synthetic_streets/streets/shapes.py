"""What a scene is made of: labelled polygons, and the paint on them."""

from dataclasses import dataclass, field

import numpy as np

Colour = tuple[float, float, float]
"""Red, green, blue, each 0 to 1."""


@dataclass
class Shape:
    """One object of a scene.

    Attributes:
        label: Cityscapes name of its class. None for paint that is not an object, such
            as a shadow on the road.
        polygon: (N, 2) outline in pixels.
        colour: Of its surface.
        depth: Distance from the camera in metres. None for the sky and the ground,
            which hide nothing and have no haze.
        texture: Name of a texture in :mod:`.painting`.
        strength: Contrast of the texture, 0 to 1.
        strokes: Details inside the polygon: (N, 2) polygons and their colours.
    """

    label: str | None
    polygon: np.ndarray
    colour: Colour
    depth: float | None
    texture: str = "plain"
    strength: float = 0.06
    strokes: list[tuple[np.ndarray, Colour]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Round the outline to whole pixels, as Cityscapes annotates."""
        self.polygon = np.rint(self.polygon).astype(int)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Return the outline as Pillow and JSON take it."""
        return [(int(x), int(y)) for x, y in self.polygon]


def shade(colour: Colour, gain: float) -> Colour:
    """Make a colour darker (gain < 1) or lighter, within 0 to 1."""
    red, green, blue = (min(channel * gain, 1.0) for channel in colour)
    return red, green, blue


def pick(rng: np.random.Generator, colours: list[Colour], jitter: float = 0.12):
    """Choose a colour; vary its brightness and, a little, each channel."""
    base = np.array(colours[rng.integers(len(colours))])
    varied = base * rng.uniform(1 - jitter, 1 + jitter) + rng.normal(0, jitter / 8, 3)
    return tuple(np.clip(varied, 0, 1).tolist())
