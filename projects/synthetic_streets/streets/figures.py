"""People and two-wheelers: flat figures, in metres, that face the camera."""

import numpy as np

from .geometry import Camera, box, disc
from .shapes import Shape, pick, shade

SKIN = [(0.85, 0.65, 0.52), (0.55, 0.38, 0.28), (0.36, 0.25, 0.18)]
CLOTHES = [
    (0.75, 0.18, 0.18),
    (0.15, 0.25, 0.55),
    (0.2, 0.2, 0.22),
    (0.8, 0.8, 0.78),
    (0.25, 0.45, 0.28),
    (0.75, 0.62, 0.25),
    (0.45, 0.4, 0.36),
]
TROUSERS = [(0.13, 0.15, 0.25), (0.2, 0.2, 0.2), (0.45, 0.4, 0.33), (0.3, 0.33, 0.4)]
METAL = [(0.6, 0.1, 0.1), (0.1, 0.2, 0.5), (0.12, 0.12, 0.12), (0.75, 0.75, 0.75)]
RUBBER = (0.06, 0.06, 0.07)
SPOKES = (0.36, 0.36, 0.37)

# A wheel base of 1.06 m; the outline runs clockwise from the rear wheel's hub.
BICYCLE = [
    (-0.87, 0.34), (-0.78, 0.6), (-0.53, 0.68), (-0.3, 0.64), (-0.3, 1.0),
    (-0.06, 1.0), (-0.1, 0.82), (0.3, 0.88), (0.28, 1.08), (0.5, 1.08), (0.46, 0.8),
    (0.6, 0.68), (0.8, 0.6), (0.87, 0.34), (0.78, 0.1), (0.53, 0.0), (0.28, 0.1),
    (0.18, 0.3), (0.0, 0.22), (-0.18, 0.3), (-0.28, 0.1), (-0.53, 0.0), (-0.78, 0.1),
]  # fmt: skip
MOTORCYCLE = [
    (-1.05, 0.32), (-0.95, 0.62), (-0.6, 0.75), (-0.6, 1.0), (0.0, 0.9), (0.25, 1.05),
    (0.45, 1.25), (0.6, 1.15), (0.62, 0.75), (0.92, 0.66), (1.05, 0.32), (0.92, 0.08),
    (0.72, 0.0), (0.5, 0.1), (0.38, 0.24), (-0.38, 0.24), (-0.5, 0.1), (-0.72, 0.0),
    (-0.95, 0.08),
]  # fmt: skip
RIDER = [
    (-0.34, 0.95), (-0.3, 1.2), (-0.04, 1.5), (0.03, 1.56), (0.03, 1.72), (0.14, 1.82),
    (0.28, 1.8), (0.33, 1.66), (0.26, 1.52), (0.24, 1.46), (0.48, 1.12), (0.44, 1.0),
    (0.18, 1.22), (0.1, 1.02), (0.26, 0.82), (0.12, 0.2), (0.24, 0.12), (-0.04, 0.12),
    (0.02, 0.72), (-0.2, 0.84),
]  # fmt: skip


def person(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Shape]:
    """A pedestrian at (x, z), in metres."""
    tall, stride = rng.uniform(1.55, 1.9), rng.uniform(0.02, 0.14)

    def project(outline):
        return camera.upright(np.array(outline) * tall, x, z)

    right_half = [
        (0.045, 0.86), (0.13, 0.82), (0.175, 0.62), (0.155, 0.45), (0.1, 0.47),
        (stride + 0.06, 0.0), (stride - 0.05, 0.0),
    ]  # fmt: skip
    left_half = [(-u, v) for u, v in reversed(right_half)]
    head = [(-0.07, 0.92), (-0.045, 0.985), (0.0, 1.0), (0.045, 0.985), (0.07, 0.92)]
    shirt, skin = pick(rng, CLOTHES), pick(rng, SKIN)
    torso = [(-0.13, 0.82), (0.13, 0.82), (0.175, 0.62), (0.15, 0.45), (-0.15, 0.45),
             (-0.175, 0.62)]  # fmt: skip
    return [
        Shape(
            "person",
            project([*right_half, (0.0, 0.42), *left_half, *head]),
            pick(rng, TROUSERS),
            depth=z,
            strength=0.1,
            strokes=[
                (project(torso), shirt),
                (project(box(0.01, 0.46, 0.13, 0.8)), shade(shirt, 0.75)),
                (project(disc(0.0, 0.92, 0.065)), skin),
                (project(box(-0.06, 0.94, 0.06, 0.99)), shade(pick(rng, SKIN), 0.35)),
            ],
        )
    ]


def cyclist(
    rng: np.random.Generator, camera: Camera, x: float, z: float
) -> list[Shape]:
    """A bicycle and its rider at (x, z), in metres, seen from the side."""
    facing = rng.choice([-1, 1]) * rng.uniform(0.75, 1.0)
    return [bicycle(rng, camera, x, z, facing), rider(rng, camera, x, z, facing)]


def biker(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Shape]:
    """A motorcycle and its rider at (x, z), in metres, seen from the side."""
    facing = rng.choice([-1, 1]) * rng.uniform(0.8, 1.0)
    return [motorcycle(rng, camera, x, z, facing), rider(rng, camera, x, z, facing)]


def bicycle(
    rng: np.random.Generator, camera: Camera, x: float, z: float, facing: float
) -> Shape:
    """A bicycle; ``facing`` is its direction (sign) and foreshortening (size)."""

    def project(outline):
        return camera.upright(np.array(outline) * (facing, 1), x, z)

    frame = pick(rng, METAL)
    wheels = [
        (project(disc(hub, 0.34, radius)), colour)
        for hub in (-0.53, 0.53)
        for radius, colour in ((0.34, RUBBER), (0.24, SPOKES))
    ]
    tubes = [
        [(-0.53, 0.3), (-0.53, 0.4), (-0.15, 0.9), (-0.05, 0.9)],
        [(-0.15, 0.75), (-0.15, 0.87), (0.4, 0.92), (0.4, 0.8)],
        [(-0.05, 0.28), (0.06, 0.28), (0.42, 0.8), (0.34, 0.85)],
        [(0.3, 1.0), (0.42, 1.0), (0.58, 0.34), (0.48, 0.34)],
        [(-0.05, 0.28), (0.05, 0.28), (-0.12, 0.9), (-0.22, 0.9)],
    ]
    saddle = (project(box(-0.3, 0.92, -0.06, 1.0)), RUBBER)
    return Shape(
        "bicycle",
        project(BICYCLE),
        SPOKES,
        depth=z,
        strokes=[*wheels, *((project(tube), frame) for tube in tubes), saddle],
    )


def motorcycle(
    rng: np.random.Generator, camera: Camera, x: float, z: float, facing: float
) -> Shape:
    """A motorcycle; ``facing`` is its direction (sign) and foreshortening (size)."""

    def project(outline):
        return camera.upright(np.array(outline) * (facing, 1), x, z)

    tank = pick(rng, METAL)
    wheels = [
        (project(disc(hub, 0.33, radius)), colour)
        for hub in (-0.72, 0.72)
        for radius, colour in ((0.33, RUBBER), (0.14, (0.6, 0.6, 0.62)))
    ]
    return Shape(
        "motorcycle",
        project(MOTORCYCLE),
        (0.2, 0.2, 0.21),
        depth=z,
        strokes=[
            *wheels,
            (
                project([(0, 0.65), (0, 0.9), (0.25, 1.05), (0.55, 0.95), (0.5, 0.6)]),
                tank,
            ),
            (project([(-0.6, 0.8), (-0.6, 1.0), (0.0, 0.9), (0.0, 0.75)]), RUBBER),
            (project(box(-0.7, 0.28, 0.1, 0.38)), (0.78, 0.78, 0.8)),
            (project(disc(0.56, 1.0, 0.1)), (0.95, 0.93, 0.8)),
        ],
    )


def rider(
    rng: np.random.Generator, camera: Camera, x: float, z: float, facing: float
) -> Shape:
    """A person who sits on a two-wheeler, with a helmet on."""

    def project(outline):
        return camera.upright(np.array(outline) * (facing, 1), x, z)

    jacket = pick(rng, CLOTHES)
    back = [(-0.33, 0.98), (-0.3, 1.2), (-0.04, 1.5), (0.24, 1.48), (0.1, 1.0)]
    arm = [(0.1, 1.45), (0.22, 1.45), (0.47, 1.12), (0.42, 1.02), (0.16, 1.24)]
    return Shape(
        "rider",
        project(RIDER),
        pick(rng, TROUSERS),
        depth=z,
        strength=0.1,
        strokes=[
            (project(back), jacket),
            (project(arm), shade(jacket, 0.7)),
            (project(disc(0.18, 1.66, 0.13)), pick(rng, SKIN)),
            (project([(0.03, 1.68), (0.1, 1.82), (0.28, 1.8), (0.33, 1.7)]),
             pick(rng, METAL)),
        ],
    )  # fmt: skip
