"""A street, composed at random: ground, two sides, furniture, traffic and people."""

from collections.abc import Callable

import numpy as np

from .figures import biker, cyclist, person
from .geometry import Camera, box, disc
from .shapes import Colour, Shape, pick, shade
from .vehicles import GLASS, bus, car, train, truck

RARE = (truck, bus, train, biker)
"""Objects that are not in every street: the scenes of a split take turns."""

RARE_LABELS = ("truck", "bus", "train", "motorcycle")
"""The classes that :data:`RARE` adds, in its order."""

FARTHEST = 80.0
NEAREST_SIDE = 5.0
ASPHALT = [(0.33, 0.33, 0.35), (0.28, 0.29, 0.3), (0.4, 0.39, 0.38)]
PAVING = [(0.5, 0.48, 0.46), (0.45, 0.42, 0.42), (0.42, 0.42, 0.44)]
GRASS = [(0.34, 0.42, 0.2), (0.42, 0.44, 0.24), (0.3, 0.38, 0.22)]
LEAVES = [(0.24, 0.36, 0.16), (0.3, 0.38, 0.2), (0.2, 0.3, 0.17)]
PLASTER = [
    (0.68, 0.6, 0.48),
    (0.58, 0.56, 0.54),
    (0.55, 0.34, 0.27),
    (0.72, 0.66, 0.55),
    (0.48, 0.46, 0.48),
    (0.6, 0.45, 0.38),
]
STONE = [(0.5, 0.47, 0.42), (0.55, 0.53, 0.5), (0.52, 0.36, 0.3)]
SLATS = [(0.38, 0.28, 0.2), (0.25, 0.32, 0.28), (0.55, 0.55, 0.55), (0.7, 0.68, 0.62)]
SKY = [(0.55, 0.7, 0.9), (0.72, 0.78, 0.86), (0.82, 0.83, 0.85), (0.45, 0.62, 0.88)]
STEEL = [(0.42, 0.43, 0.44), (0.3, 0.31, 0.32), (0.55, 0.55, 0.54)]
SIGN_FACES: list[tuple[Colour, Colour]] = [
    ((0.8, 0.1, 0.1), (0.95, 0.95, 0.92)),
    ((0.1, 0.25, 0.65), (0.9, 0.92, 0.95)),
    ((0.9, 0.75, 0.1), (0.15, 0.15, 0.15)),
]
LAMPS: list[Colour] = [(0.95, 0.15, 0.1), (0.95, 0.7, 0.1), (0.15, 0.9, 0.4)]


def compose(
    rng: np.random.Generator, height: int, width: int, rare: Callable
) -> list[Shape]:
    """Compose one street with one object of :data:`RARE`.

    Returns:
        The shapes in painter's order: the ground, the objects from far to near, and
        the camera's own car. Some may be hidden by nearer ones.
    """
    camera = Camera(
        height,
        width,
        horizon=height * rng.uniform(0.42, 0.5),
        vanishing_x=width * rng.uniform(0.44, 0.56),
        focal=width * 0.75,
        elevation=rng.uniform(1.5, 1.8),
    )
    kerb = rng.uniform(3.8, 4.8)
    edge = kerb + rng.uniform(2.6, 3.6)
    green = int(rng.choice([-1, 1]))
    shapes = [
        *ground(rng, camera, kerb, edge),
        *far_end(rng, camera),
        *built_side(rng, camera, -green * edge),
        *green_side(rng, camera, green * (edge + 2.6), green),
        *furniture(rng, camera, kerb),
        *traffic(rng, camera, kerb, rare),
        *people(rng, camera, kerb, edge),
    ]
    shapes.sort(key=lambda shape: -np.inf if shape.depth is None else -shape.depth)
    return [*shapes, hood(rng, camera)]


def ground(
    rng: np.random.Generator, camera: Camera, kerb: float, edge: float
) -> list[Shape]:
    """Sky, terrain, sidewalks up to ``edge`` and road up to ``kerb``, in metres."""

    def strip(half, near=1.2, far=200.0, middle=0.0):
        return camera.ground(box(middle - half, near, middle + half, far))

    width, height, horizon = camera.width, camera.height, camera.horizon
    paving, asphalt = pick(rng, PAVING), pick(rng, ASPHALT)
    joints = [
        (strip(edge, z, z + 0.07), shade(paving, 0.8))
        for z in np.arange(4.0, 25.0, 0.9)
    ]
    dashes = [
        (strip(0.08, z, z + 3.0), (0.85, 0.85, 0.82))
        for z in np.arange(rng.uniform(2.5, 6.0), 60.0, 6.0)
    ]
    stripes = [
        (strip(0.25, 18.0, 20.5, middle), (0.85, 0.85, 0.82))
        for middle in np.arange(-kerb + 0.8, kerb - 0.5, 1.0)
    ]
    kerbstone = [(strip(kerb + 0.18), shade(paving, 1.25))]
    above, below = box(0, horizon + 2, width, 0), box(0, height, width, horizon)
    return [
        Shape("sky", np.array(above), pick(rng, SKY), None, "clouds", 0.16),
        Shape("terrain", np.array(below), pick(rng, GRASS), None, "grass", 0.35),
        Shape("sidewalk", strip(edge), paving, None, "grain", 0.1, joints + kerbstone),
        Shape("road", strip(kerb), asphalt, None, "grain", 0.16,
              dashes + (stripes if rng.random() < 0.4 else [])),
    ]  # fmt: skip


def far_end(rng: np.random.Generator, camera: Camera) -> list[Shape]:
    """Houses and trees where the street ends."""
    shapes = []
    for x in np.arange(-66, 66, 12):
        wide, high = rng.uniform(9, 14), rng.uniform(6, 15)
        outline = box(0, 0, wide, high)
        colour = pick(rng, PLASTER)
        panes = [
            (
                camera.upright(box(u, v, u + 1.2, v + 1.6), x, FARTHEST),
                shade(colour, 0.5),
            )
            for u in np.arange(1, wide - 1.5, 2.6)
            for v in np.arange(2, high - 2, 3.2)
        ]
        house = camera.upright(outline, x, FARTHEST)
        shapes.append(Shape("building", house, colour, FARTHEST, "plain", 0.05, panes))
        if rng.random() < 0.5:
            shapes.append(tree_crown(rng, camera, x, FARTHEST - 5, 4.0, 3.5))
    return shapes


def built_side(rng: np.random.Generator, camera: Camera, x: float) -> list[Shape]:
    """House next to house along the plane ``x`` metres off the middle of the road."""
    shapes, near = [], NEAREST_SIDE
    while near < FARTHEST - 10:
        far = near + rng.uniform(9, 16)
        shapes.append(house(rng, camera, x, near, far))
        near = far + (rng.uniform(2, 5) if rng.random() < 0.3 else 0.0)
    return shapes


def house(
    rng: np.random.Generator, camera: Camera, x: float, near: float, far: float
) -> Shape:
    """A house between two depths: its front along the street, and its gable."""
    high, colour = rng.uniform(6.5, 13), pick(rng, PLASTER)
    outer, lit = x + np.sign(x) * 12, rng.uniform(0.7, 1.1)
    front = shade(colour, lit)

    def on_front(z0, y0, z1, y1):
        return camera.project([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)])

    strokes = [(on_front(near, 0, far, high), front)]
    floors = np.arange(0.9, high - 2.2, 3.0)
    bays = np.arange(near + 0.8, far - 1.4, rng.uniform(2.2, 3.2))
    pane = GLASS if rng.random() < 0.6 else shade(front, 0.55)
    for y in floors:
        for z in bays:
            strokes.append(
                (on_front(z - 0.1, y - 0.15, z + 1.4, y + 1.8), shade(front, 1.2))
            )
            strokes.append((on_front(z, y, z + 1.3, y + 1.65), pane))
    strokes.append((on_front(near, high - 0.5, far, high), shade(front, 0.7)))
    strokes.append((on_front(near, 0, far, 0.6), shade(front, 0.75)))
    # Gable first, then once around: towards the camera, outer edge, roof, far end.
    outline = [
        (x, 0, near), (outer, 0, near), (outer, high, near), (x, high, near),
        (x, high, far), (x, 0, far),
    ]  # fmt: skip
    gable = shade(colour, 0.9)
    return Shape(
        "building", camera.project(outline), gable, far, "brick", 0.12, strokes
    )


def green_side(
    rng: np.random.Generator, camera: Camera, x: float, side: int
) -> list[Shape]:
    """Walls, fences, hedges and trees along the plane ``x``, grass before them."""
    shapes, near = [], NEAREST_SIDE
    kinds = [wall, fence, hedge]
    rng.shuffle(kinds)
    for turn in range(9):
        far = near + rng.uniform(5.5, 9)
        shapes.append(kinds[turn % 3](rng, camera, x, near, far))
        near = far
    for z in np.arange(rng.uniform(9, 13), 70, 7.5):
        distance = rng.uniform(1.5, 3.5)
        crown = rng.uniform(1.6, 2.4)
        where = x + side * distance
        trunk = camera.upright(box(-0.18, 0, 0.18, 3.5), where, z)
        shapes.append(Shape("vegetation", trunk, (0.27, 0.21, 0.16), z, "grain", 0.15))
        shapes.append(tree_crown(rng, camera, where, z, rng.uniform(3.6, 5.2), crown))
    if rng.random() < 0.6:
        near = rng.uniform(14, 30)
        shapes.append(house(rng, camera, x + side * 6, near, near + 12))
    return shapes


def panel(camera: Camera, x: float, near: float, far: float, bottom: float, top: float):
    """Project an upright rectangle along the street: (4, 2) pixels."""
    return camera.project(
        [(x, bottom, near), (x, bottom, far), (x, top, far), (x, top, near)]
    )


def wall(
    rng: np.random.Generator, camera: Camera, x: float, near: float, far: float
) -> Shape:
    """A garden wall of stone."""
    high, colour = rng.uniform(1.7, 2.6), pick(rng, STONE)
    courses = [
        (panel(camera, x, near, far, y, y + 0.06), shade(colour, 0.75))
        for y in np.arange(0.35, high - 0.2, 0.4)
    ]
    coping = (panel(camera, x, near, far, high - 0.18, high), shade(colour, 1.2))
    outline = panel(camera, x, near, far, 0, high)
    return Shape("wall", outline, colour, far, "grain", 0.16, [*courses, coping])


def fence(
    rng: np.random.Generator, camera: Camera, x: float, near: float, far: float
) -> Shape:
    """A fence of upright slats, dark between them."""
    high, colour = rng.uniform(1.2, 1.9), pick(rng, SLATS)
    slats = [
        (panel(camera, x, z, z + 0.2, 0.05, high), colour)
        for z in np.arange(near + 0.1, far - 0.2, 0.42)
    ]
    rails = [
        (panel(camera, x, near, far, y, y + 0.12), shade(colour, 0.85))
        for y in (0.3, high - 0.3)
    ]
    outline = panel(camera, x, near, far, 0, high)
    return Shape(
        "fence", outline, (0.16, 0.17, 0.13), far, "plain", 0.08, slats + rails
    )


def hedge(
    rng: np.random.Generator, camera: Camera, x: float, near: float, far: float
) -> Shape:
    """A hedge with an uneven top."""
    high = rng.uniform(1.3, 2.8)
    top = [(x, high * rng.uniform(0.85, 1.1), z) for z in np.linspace(far, near, num=9)]
    outline = camera.project([(x, 0, near), (x, 0, far), *top])
    return Shape("vegetation", outline, pick(rng, LEAVES), far, "leaves", 0.5)


def tree_crown(
    rng: np.random.Generator,
    camera: Camera,
    x: float,
    z: float,
    middle: float,
    radius: float,
) -> Shape:
    """An uneven blob of leaves whose centre is ``middle`` metres above the ground."""
    blob = np.array(disc(0, 0, 1, sides=18)) * rng.uniform(0.78, 1.12, (18, 1)) * radius
    outline = camera.upright(blob * (1.0, 0.9) + (0, middle), x, z)
    return Shape("vegetation", outline, pick(rng, LEAVES), z, "leaves", 0.5)


def furniture(rng: np.random.Generator, camera: Camera, kerb: float) -> list[Shape]:
    """Lamp posts, traffic lights, traffic signs and a bin along the kerbs."""
    shapes = []
    sides = rng.permutation([-1, 1, -1, 1])
    makers = (traffic_light, traffic_sign, traffic_light, traffic_sign)
    depths = (rng.uniform(9.5, 12), rng.uniform(9.5, 12.5), rng.uniform(17, 22),
              rng.uniform(14, 18))  # fmt: skip
    for maker, side, z in zip(makers, sides, depths, strict=True):
        shapes.extend(maker(rng, camera, side * (kerb + 0.35), z))
    for z in np.arange(rng.uniform(13, 18), 60, 14):
        shapes.extend(lamp_post(rng, camera, kerb + 0.4, z, rng.uniform(5.5, 7.0)))
        shapes.extend(lamp_post(rng, camera, -kerb - 0.4, z + 6, rng.uniform(5.5, 7.0)))
    x, z = rng.choice([-1, 1]) * (kerb + 0.9), rng.uniform(10, 20)
    outline = camera.upright(box(-0.3, 0, 0.3, 1.0), x, z)
    lid = (camera.upright(box(-0.3, 0.85, 0.3, 1.0), x, z), (0.1, 0.1, 0.1))
    shapes.append(Shape("static", outline, pick(rng, SLATS), z, strokes=[lid]))
    return shapes


def post(camera: Camera, x: float, z: float, high: float, colour: Colour) -> Shape:
    """A pole, at least two pixels wide where the scene needs it to be seen."""
    half = max(0.09, 0.9 * z / camera.focal)
    light = (camera.upright(box(-half, 0, 0, high), x, z), shade(colour, 1.25))
    outline = camera.upright(box(-half, 0, half, high), x, z)
    return Shape("pole", outline, colour, z, strength=0.04, strokes=[light])


def lamp_post(
    rng: np.random.Generator, camera: Camera, x: float, z: float, high: float
) -> list[Shape]:
    """A street lamp, its arm towards the road."""
    colour, reach = pick(rng, STEEL), -np.sign(x) * 1.6
    arm = [(0, high - 0.15), (reach, high), (reach, high + 0.15), (0, high)]
    return [
        post(camera, x, z, high, colour),
        Shape("pole", camera.upright(arm, x, z), colour, z),
    ]


def traffic_light(
    rng: np.random.Generator, camera: Camera, x: float, z: float
) -> list[Shape]:
    """A traffic light on its pole; one of three lamps is lit."""
    bottom, lit = rng.uniform(2.3, 2.8), int(rng.integers(3))
    lamps = [
        (camera.upright(disc(0, bottom + 1.05 - 0.36 * i, 0.15), x, z),
         LAMPS[i] if i == lit else shade(LAMPS[i], 0.22))
        for i in range(3)
    ]  # fmt: skip
    outline = camera.upright(box(-0.26, bottom, 0.26, bottom + 1.35), x, z)
    return [
        post(camera, x, z, bottom + 0.3, pick(rng, STEEL)),
        Shape("traffic light", outline, (0.09, 0.1, 0.1), z, "plain", 0.04, lamps),
    ]


def traffic_sign(
    rng: np.random.Generator, camera: Camera, x: float, z: float
) -> list[Shape]:
    """A traffic sign on its pole: a disc, a triangle or a square."""
    middle, radius = rng.uniform(2.3, 2.7), rng.uniform(0.42, 0.5)
    plate = [
        np.array(disc(0, 0, 1)),
        np.array([(-1.0, -0.75), (1.0, -0.75), (0.0, 1.0)]),
        np.array(box(-0.9, -0.9, 0.9, 0.9)),
    ][rng.integers(3)] * radius
    rim, face = SIGN_FACES[rng.integers(len(SIGN_FACES))]
    inner = camera.upright(plate * 0.6 + np.array([0, middle]), x, z)
    outline = camera.upright(plate + np.array([0, middle]), x, z)
    return [
        post(camera, x, z, middle, pick(rng, STEEL)),
        Shape("traffic sign", outline, rim, z, "plain", 0.04, [(inner, face)]),
    ]


def traffic(
    rng: np.random.Generator, camera: Camera, kerb: float, rare: Callable
) -> list[Shape]:
    """The rare object, cars before and behind it, cars parked along one kerb."""
    lane, parked = kerb * 0.42, kerb - 0.9
    side = int(rng.choice([-1, 1]))
    nearest = 7 if rare is biker else 11
    shapes = rare(rng, camera, side * lane, nearest * rng.uniform(1, 1.4))
    shapes += car(rng, camera, -side * lane * 0.7, rng.uniform(14, 30))
    if rng.random() < 0.5:
        shapes += car(rng, camera, -side * lane * 0.7, rng.uniform(38, 60))
    z = rng.uniform(7.5, 12)
    for _ in range(rng.integers(2, 5)):
        shapes += car(rng, camera, -side * parked, z)
        z += rng.uniform(6, 9)
    # Between the lanes or at the kerb, so that the rare object is not all hidden.
    z = rng.uniform(7.5, 10)
    x = side * rng.choice([-0.1, 0.8]) * camera.half_width(z)
    shapes += cyclist(rng, camera, x, z)
    if rng.random() < 0.5:
        shapes += cyclist(rng, camera, -side * 0.5, rng.uniform(12, 20))
    return shapes


def people(
    rng: np.random.Generator, camera: Camera, kerb: float, edge: float
) -> list[Shape]:
    """Pedestrians, on both sidewalks and now and then on the road."""
    shapes = []
    for _ in range(rng.integers(4, 8)):
        z = rng.uniform(9.5, 22)
        x = rng.choice([-1, 1]) * rng.uniform(kerb + 0.5, edge - 0.2)
        shapes.extend(person(rng, camera, x, z))
    if rng.random() < 0.35:
        x = rng.uniform(-0.5, 0.5) * camera.half_width(8)
        shapes.extend(person(rng, camera, x, rng.uniform(7, 11)))
    return shapes


def hood(rng: np.random.Generator, camera: Camera) -> Shape:
    """The bonnet of the camera's own car, along the lower edge of the picture."""
    columns = np.linspace(0, camera.width, num=17)
    bend = 1 - ((columns - camera.vanishing_x) / camera.width) ** 2 * 3
    rows = camera.height * (1 - rng.uniform(0.05, 0.08) * np.clip(bend, 0.1, 1))
    outline = np.array(
        [*zip(columns, rows, strict=True), (camera.width, camera.height),
         (0, camera.height)]
    )  # fmt: skip
    return Shape("ego vehicle", outline, (0.12, 0.12, 0.14), 1.0, "clouds", 0.3)
