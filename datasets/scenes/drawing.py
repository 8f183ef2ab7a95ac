"""Scenes: one to six flat shapes over a photo, some of them partly behind others, with masks and boxes.

The same bytes on every machine, for the reasons that photos.py gives: frozen random streams, whole numbers.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

# By its place, not by name: the head of photos.py says why.
_spec = importlib.util.spec_from_file_location("photos", Path(__file__).parent.parent / "photos.py")
photos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(photos)

SIZE = 96  # pictures are SIZE x SIZE pixels
SPLITS = {"train": 800, "validation": 200, "test": 400}
SHAPES = ("disc", "ring", "square", "triangle", "cross", "star")

MOST = 6  # objects in a picture
RADII = (9, 24)  # pixels: the smallest and the largest radius
LEAST_VISIBLE = 60  # percent of an object's pixels that later objects leave to be seen
TRIES = 30  # to find such a place, before the picture does with fewer objects
LEAST_GAP = 48  # of luminance (0 to 255) between an object's colour and the mean of what it covers

FINE = 4  # a pixel is drawn as FINE x FINE points
UNIT = 256  # steps per pixel in which points are computed

# Directions from the centre to the sides' middles, times 1024: 3 of a triangle, 5 of a star's long lines.
_TRIANGLE = ((0, 1024), (-887, -512), (887, -512))
_STAR = ((0, 1024), (-974, 316), (-602, -828), (602, -828), (974, 316))


class Scene(NamedTuple):
    """One picture and what is in it.

    image: uint8 (SIZE, SIZE, 3), RGB. mask: uint8 (SIZE, SIZE), 0 = the photo, k + 1 = shape k. labels: int64
    (n,), indices into SHAPES, in the order drawn. boxes: int64 (n, 4), x_min, y_min, x_max, y_max of what is
    to be seen of each object, in pixels, of the edges: (0, 0, SIZE, SIZE) is the box of the whole picture.
    """

    image: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


def scene(split: str, number: int) -> Scene:
    """Return picture `number` of a split; each has a random stream of its own."""
    random = np.random.RandomState([3, list(SPLITS).index(split), number])
    image = _photo(random)
    owner = np.full((SIZE, SIZE), -1)  # which object a pixel shows
    labels, areas = [], []
    for _ in range(photos.integers(random, 1, MOST)):
        label = int(photos.integers(random, 0, len(SHAPES) - 1))
        for _ in range(TRIES):
            covered = cover(SHAPES[label], random)
            solid = 2 * covered >= FINE**2
            left = np.bincount(owner[(owner >= 0) & ~solid], minlength=len(areas))
            if (100 * left >= LEAST_VISIBLE * np.array(areas, dtype=np.int64)).all():
                _paint(image, covered, solid, random)
                owner[solid] = len(areas)
                labels.append(label)
                areas.append(int(solid.sum()))
                break
    labels = np.array(labels, dtype=np.int64)
    mask = np.where(owner >= 0, labels[owner] + 1, 0).astype(np.uint8)
    boxes = np.array([box(owner == index) for index in range(len(labels))], dtype=np.int64)
    return Scene(image.astype(np.uint8), mask, labels, boxes)


def box(visible: np.ndarray) -> tuple[int, int, int, int]:
    """Return the edges x_min, y_min, x_max, y_max around the True pixels of bool (SIZE, SIZE)."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def cover(shape: str, random: np.random.RandomState) -> np.ndarray:
    """Draw a shape at a random place, size, turn and stretch: of each pixel's FINE x FINE points, how many
    it covers, int64 (SIZE, SIZE).
    """
    radius, x, y, turn, narrow = photos.integers(random, 0, 10**6, 5)
    low, high = RADII[0] * UNIT, RADII[1] * UNIT
    radius = low + radius % (high - low + 1)
    room = SIZE * UNIT - 2 * radius  # the shape stays inside the picture
    centre_x, centre_y = radius + x % (room + 1), radius + y % (room + 1)
    # From -90 to 90 degrees, by t = tan(half the angle) in 1/256, as photos.draw has it.
    t = turn % 513 - 256
    cos, sin = (65536 - t * t) * 256 // (65536 + t * t), 131072 * t // (65536 + t * t)
    # Only the pixels around it: nothing of a shape is farther from its centre than its radius.
    columns, rows = (slice((at - radius) // UNIT, (at + radius) // UNIT + 1) for at in (centre_x, centre_y))
    points = (2 * np.arange(SIZE * FINE).reshape(SIZE, FINE) + 1) * UNIT // (2 * FINE)
    across = points[columns].reshape(1, -1) - centre_x
    down = points[rows].reshape(-1, 1) - centre_y
    u = (cos * across + sin * down) // (192 + narrow % 65)  # from 3/4 as wide as high to as wide
    v = (cos * down - sin * across) // 256
    inside = within(shape, u, v, radius)
    covered = np.zeros((SIZE, SIZE), np.int64)
    covered[rows, columns] = inside.reshape(len(down) // FINE, FINE, -1, FINE).sum(axis=(1, 3))
    return covered


def within(shape: str, u: np.ndarray, v: np.ndarray, radius: int) -> np.ndarray:
    """Return which points (u, v), measured from the centre, lie in a shape of that radius: bool."""
    if shape in ("disc", "ring"):
        square = u * u + v * v
        inner = radius * 9 // 16 if shape == "ring" else 0
        return (square >= inner * inner) & (square <= radius * radius)
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= radius * 45 // 64
    if shape == "cross":
        near, far = np.minimum(np.abs(u), np.abs(v)), np.maximum(np.abs(u), np.abs(v))
        return (near <= radius * 5 // 16) & (far <= radius * 15 // 16)
    if shape == "triangle":
        return sum(x * u + y * v <= radius * 512 for x, y in _TRIANGLE) == 3
    # A pentagram: what is on the inner side of four or all of five lines, cos 72 degrees from the centre.
    return sum(x * u + y * v <= radius * 316 for x, y in _STAR) >= 4


def _photo(random: np.random.RandomState) -> np.ndarray:
    """Return a random crop of random brightness and contrast: int64 (SIZE, SIZE, 3), 0 to 255."""
    photo = photos.crops(1, random, SIZE)[0].astype(np.int64)
    mean = int(photos.luminance(photo).sum()) // SIZE**2
    brightness, contrast = photos.integers(random, 60, 195), photos.integers(random, 128, 256)
    return np.clip(((photo - mean) * contrast >> 8) + brightness, 0, 255)


def _paint(image: np.ndarray, covered: np.ndarray, solid: np.ndarray, random: np.random.RandomState) -> None:
    """Paint a shape into the picture, in a random colour with the grain of another crop.

    The colour's luminance is LEAST_GAP or more from the mean of what the shape covers.
    """
    beneath = int(photos.luminance(image)[solid].sum()) // int(solid.sum())
    light = np.arange(20, 236)
    light = light[np.abs(light - beneath) >= LEAST_GAP]
    wanted = light[photos.integers(random, 0, 10**6, 1) % len(light)]
    colour = photos.stroke_colours(wanted, random)[0]
    grain = photos.luminance(photos.crops(1, random, SIZE)[0]).astype(np.int64)
    grain -= int(grain[solid].sum()) // int(solid.sum())
    painted = np.clip(colour + (grain * photos.integers(random, 0, 80) >> 8)[..., None], 0, 255)
    image += (painted - image) * covered[..., None] // FINE**2
