"""Cars, trucks, buses and trams: boxes, in metres, of which two faces are seen."""

from dataclasses import dataclass

import numpy as np

from .geometry import Camera, box, convex_hull, disc
from .shapes import Colour, Shape, pick, shade

PAINT = [
    (0.75, 0.75, 0.77),
    (0.16, 0.17, 0.19),
    (0.55, 0.12, 0.12),
    (0.14, 0.24, 0.46),
    (0.85, 0.85, 0.83),
    (0.42, 0.43, 0.45),
    (0.3, 0.42, 0.36),
]
LIVERY = [(0.8, 0.68, 0.15), (0.65, 0.12, 0.14), (0.2, 0.35, 0.6), (0.75, 0.75, 0.72)]
TARPAULIN = [(0.78, 0.77, 0.73), (0.25, 0.38, 0.55), (0.5, 0.5, 0.48), (0.6, 0.3, 0.2)]
GLASS = (0.1, 0.13, 0.17)
RUBBER = (0.05, 0.05, 0.05)
PLATE = (0.9, 0.9, 0.85)
TAIL_LIGHT, HEAD_LIGHT = (0.8, 0.08, 0.06), (0.98, 0.96, 0.85)


@dataclass(frozen=True)
class Body:
    """The box around a vehicle; (x, z) is the middle of the face that is nearest.

    All attributes are in metres.
    """

    camera: Camera
    x: float
    z: float
    width: float
    length: float

    def face(self, outline) -> np.ndarray:
        """Project (N, 2): share of the half width, -1 to 1, and metres up."""
        return self.camera.upright(
            [(u * self.width / 2, v) for u, v in outline], self.x, self.z
        )

    def side(self, outline, inset: float = 0.0) -> np.ndarray:
        """Project (N, 2), share of the length, 0 to 1, and metres up, on the side.

        It is the side towards the middle of the street, moved inwards by ``inset``.
        """
        x = self.x - np.sign(self.x) * (self.width / 2 - inset)
        return self.camera.project(
            [(x, v, self.z + w * self.length) for w, v in outline]
        )

    def shadow(self) -> Shape:
        """The shadow under it, which belongs to the road."""
        left, right = self.x - 0.55 * self.width, self.x + 0.55 * self.width
        corners = box(left, self.z - 0.25, right, self.z + self.length)
        return Shape(None, self.camera.ground(corners), (0.1, 0.1, 0.11), depth=None)

    def wheels(self, positions: tuple[float, ...], radius: float) -> list:
        """Paint two wheels on the face, and one per axle, a share of the length."""
        flat = radius / self.length
        return [
            (self.face(box(-0.92, 0.0, -0.62, radius)), RUBBER),
            (self.face(box(0.62, 0.0, 0.92, radius)), RUBBER),
            *(
                (
                    self.side(np.array(disc(0, 0, 1)) * (flat, radius) + (p, radius)),
                    RUBBER,
                )
                for p in positions
            ),
        ]


def car(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Shape]:
    """A car, seen from behind or, on the left, from its front."""
    body = Body(camera, x, z, rng.uniform(1.7, 1.9), rng.uniform(3.8, 4.7))
    belt, roof = rng.uniform(0.85, 0.95), rng.uniform(1.4, 1.65)
    colour, lights = pick(rng, PAINT), HEAD_LIGHT if x < 0 else TAIL_LIGHT
    rear, front = rng.uniform(0.02, 0.12), rng.uniform(0.6, 0.75)
    profile = [(0, 0.25), (0, belt), (rear, roof), (front, roof), (front + 0.17, belt),
               (1, belt - 0.1), (1, 0.25)]  # fmt: skip
    cabin = [(-0.92, belt), (0.92, belt), (0.76, roof), (-0.76, roof)]
    panes = [(rear + 0.06, belt), (rear + 0.09, roof - 0.1), (front - 0.02, roof - 0.1),
             (front + 0.12, belt)]  # fmt: skip
    plate = body.face(box(-0.28, 0.42, 0.28, 0.56))
    lower = [body.face([(-1, 0), (1, 0), (-1, belt), (1, belt)]), body.face(cabin)]
    outline = convex_hull(
        np.concatenate([*lower, body.side([(0, 0), (1, 0), *profile])])
    )
    shape = Shape(
        "car",
        outline,
        shade(colour, 0.55),
        depth=z,
        strokes=[
            (body.side(profile), shade(colour, 0.7)),
            (body.side(panes, inset=0.05), GLASS),
            (body.face(cabin), shade(colour, 0.95)),
            (body.face(box(-1, 0.25, 1, belt)), colour),
            (body.face([(-0.8, belt + 0.04), (0.8, belt + 0.04), (0.66, roof - 0.1),
                        (-0.66, roof - 0.1)]), GLASS),
            (body.face(box(-1, 0.25, 1, 0.38)), shade(colour, 0.35)),
            (body.face(box(-0.97, 0.62, -0.66, 0.78)), lights),
            (body.face(box(0.66, 0.62, 0.97, 0.78)), lights),
            *body.wheels((0.2, 0.8), 0.32),
            (plate, PLATE),
        ],
    )  # fmt: skip
    # As in Cityscapes, this label's id of -1 leaves the pixels of the car alone.
    number_plate = Shape("license plate", plate, PLATE, depth=z)
    return [body.shadow(), shape, number_plate]


def truck(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Shape]:
    """A lorry with a plain cargo box, seen from behind."""
    body = Body(camera, x, z, 2.5, rng.uniform(6.5, 8.5))
    cargo, top = pick(rng, TARPAULIN), rng.uniform(3.2, 3.7)
    strokes = [
        (body.side([(0, 0.9), (0.75, 0.9), (0.75, top), (0, top)]), shade(cargo, 0.75)),
        (body.side([(0.8, 0.6), (1, 0.6), (1, 2.6), (0.8, 2.8)]), pick(rng, LIVERY)),
        (body.side([(0.84, 1.6), (0.96, 1.6), (0.96, 2.4), (0.84, 2.4)]), GLASS),
        (body.face(box(-1, 0.9, 1, top)), cargo),
        (body.face(box(-0.9, 1.0, -0.04, top - 0.15)), shade(cargo, 0.88)),
        (body.face(box(0.04, 1.0, 0.9, top - 0.15)), shade(cargo, 0.88)),
        (body.face(box(-0.95, 0.6, 0.95, 0.85)), (0.25, 0.25, 0.26)),
        (body.face(box(-0.95, 0.65, -0.7, 0.8)), TAIL_LIGHT),
        (body.face(box(0.7, 0.65, 0.95, 0.8)), TAIL_LIGHT),
        *body.wheels((0.15, 0.3, 0.88), 0.48),
    ]
    return block("truck", body, top, shade(cargo, 0.4), strokes)


def bus(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Shape]:
    """A bus with a row of windows, seen from behind."""
    body = Body(camera, x, z, 2.5, rng.uniform(10.0, 12.0))
    colour, top = pick(rng, LIVERY), rng.uniform(3.0, 3.3)
    strokes = [
        (body.side([(0, 0.3), (1, 0.3), (1, top), (0, top)]), shade(colour, 0.75)),
        *windows(body, 7, 1.35, 2.4),
        (body.face(box(-1, 0.3, 1, top)), colour),
        (body.face(box(-0.85, 1.5, 0.85, 2.5)), GLASS),
        (body.face(box(-0.5, top - 0.45, 0.5, top - 0.2)), (0.95, 0.6, 0.1)),
        (body.face(box(-0.6, 0.6, 0.6, 1.1)), shade(colour, 0.5)),
        (body.face(box(-0.95, 0.7, -0.75, 1.2)), TAIL_LIGHT),
        (body.face(box(0.75, 0.7, 0.95, 1.2)), TAIL_LIGHT),
        *body.wheels((0.25, 0.8), 0.45),
    ]
    return block("bus", body, top, shade(colour, 0.4), strokes)


def train(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Shape]:
    """A tram on its rails, seen from its front."""
    body = Body(camera, x, z, 2.4, rng.uniform(24.0, 30.0))
    colour, top = pick(rng, LIVERY), 3.5
    pale = (0.85, 0.84, 0.8)
    strokes = [
        (body.side([(0, 0.2), (1, 0.2), (1, top), (0, top)]), shade(pale, 0.7)),
        (body.side([(0, 0.4), (1, 0.4), (1, 1.3), (0, 1.3)]), shade(colour, 0.7)),
        *windows(body, 14, 1.5, 2.7),
        (body.face(box(-1, 0.2, 1, top)), pale),
        (body.face(box(-1, 0.4, 1, 1.3)), colour),
        (body.face([(-0.9, 1.4), (0.9, 1.4), (0.75, 2.9), (-0.75, 2.9)]), GLASS),
        (body.face(box(-0.4, 3.0, 0.4, 3.3)), (0.95, 0.75, 0.2)),
        (body.face(disc(-0.7, 0.8, 0.16)), HEAD_LIGHT),
        (body.face(disc(0.7, 0.8, 0.16)), HEAD_LIGHT),
        (body.face(box(-0.9, 0.1, 0.9, 0.35)), (0.15, 0.15, 0.15)),
    ]
    rails = [
        (camera.ground(box(rail - 0.06, 1.5, rail + 0.06, 60)), (0.6, 0.6, 0.62))
        for rail in (x - 0.72, x + 0.72)
    ]
    bed = camera.ground(box(x - 1.1, 1.5, x + 1.1, 60))
    track = Shape("rail track", bed, (0.3, 0.28, 0.27), None, "grain", 0.2, rails)
    return [track, *block("train", body, top, shade(colour, 0.4), strokes)]


def windows(body: Body, count: int, bottom: float, top: float) -> list:
    """Paint ``count`` panes along the side, between two heights."""
    return [
        (body.side(box((i + 0.12) / count, bottom, (i + 0.88) / count, top)), GLASS)
        for i in range(count)
    ]


def block(
    label: str, body: Body, top: float, colour: Colour, strokes: list
) -> list[Shape]:
    """The shadow and the shape of a vehicle that fills its box up to ``top``."""
    ends = [body.face(box(-1, 0, 1, top)), body.side(box(0, 0, 1, top))]
    outline = convex_hull(np.concatenate(ends))
    return [body.shadow(), Shape(label, outline, colour, depth=body.z, strokes=strokes)]
