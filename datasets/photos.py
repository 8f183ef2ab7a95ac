"""Pictures with something written on a photo: the composition that the datasets here share.

Everything comes from inside two dependencies: the handwritten digits and the two photos of scikit-learn, and
the letters of the TrueType fonts in Matplotlib. Every machine gets the same bytes: random numbers come from
`np.random.RandomState`, whose streams are frozen, and all arithmetic is on integers. Where floats are used
(matrix products, square roots) they hold integers below 2**53 or are rounded correctly by IEEE 754, so the
result is exact.

Each dataset builder loads this file by its position, not by `import datasets.photos`: another installed
package may be called `datasets`, and a project may carry this file and one of the builders only. For the same
reason `datasets/` has no `__init__.py`: it must not hide that other package from a person who works in this
folder.
"""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIZE = 64  # pictures are SIZE x SIZE pixels
# Pictures composed at once. Each chunk has a random stream of its own, so that a longer split only appends.
CHUNK = 250

DIGIT_SPLITS = {"train": 800, "validation": 200, "test": 797}  # all 1,797 digits of scikit-learn, each once
LETTER_SPLITS = {"train": 60_000, "validation": 2_000, "test": 4_000}

# Upper and lower case that look alike are one class, as in EMNIST's "by merge" labels.
MERGED = "CIJKLMOPSUVWXYZ"
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")

# Only fonts that every Matplotlib since 3.5 ships, so that a newer one changes nothing.
SEEN_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralBolIta",
    "cmb10",
    "cmmi10",
    "cmr10",
)
UNSEEN_FONTS = ("DejaVuSerif-BoldItalic", "STIXGeneralItalic", "cmss10", "cmtt10")  # in test only

LEAST_GAP = 80  # of luminance (0 to 255) between the stroke and the mean of its photo
LEAST_LOCAL_GAP = 40  # and between the stroke and each pixel of the photo that it covers

FIELD = 64  # side of a glyph's distance field; the glyph's longer side is GLYPH of it
GLYPH = 40
CELLS = 32  # a letter is drawn on CELLS x CELLS cells before it is scaled into its picture


class Pictures(NamedTuple):
    """One chunk of a split.

    images: uint8 (n, SIZE, SIZE, 3), RGB. labels: int64 (n,), the class. sources: which digit of scikit-learn
    (int64), or which font (str), (n,). masks: uint8 (n, SIZE, SIZE), how much of a pixel the stroke covers,
    255 = all. photos: uint8 like images, what lies beneath the strokes.
    """

    images: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    masks: np.ndarray
    photos: np.ndarray


def digits(split: str) -> Iterator[Pictures]:
    """Yield a split of the digits, a chunk at a time; `sources` are rows of scikit-learn's `load_digits`."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Each row is an 8 x 8 picture of counts 0 to 16: how many of 4 x 4 pixels the pen touched.
    counts, labels = bunch.images.astype(np.int64), bunch.target.astype(np.int64)
    rows = digit_rows(labels)[split]
    for chunk, start in enumerate(range(0, len(rows), CHUNK)):
        chosen = rows[start : start + CHUNK]
        random = np.random.RandomState([1, list(DIGIT_SPLITS).index(split), chunk])
        cells = np.full(len(chosen), 8)
        masks = place(counts[chosen] * 255 // 16, cells, random, sharpest=40)
        images, photos = compose(masks, random)
        yield Pictures(images, labels[chosen], chosen, masks, photos)


def digit_rows(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Deal all rows to DIGIT_SPLITS, each class in proportion: {split: rows in random order}."""
    random = np.random.RandomState(0)
    rows = random.permutation(len(labels))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    splits = {}
    for split, count in DIGIT_SPLITS.items():
        # Sorted by class, every (count / rest)-th row goes to this split, so each class gives its share.
        steps = np.arange(len(rows) + 1) * count // len(rows)
        taken = np.diff(steps) == 1
        splits[split] = random.permutation(rows[taken])
        rows = rows[~taken]
    return splits


def letters(split: str, count: int | None = None) -> Iterator[Pictures]:
    """Yield `count` pictures of a split of the letters, a chunk at a time; `sources` are font names.

    Labels index LETTERS. Train and validation show SEEN_FONTS; test alternates between a chunk of them and a
    chunk of UNSEEN_FONTS. A larger count only appends to a smaller one.
    """
    count = LETTER_SPLITS[split] if count is None else count
    fields, letter_of, font_of = distance_fields()
    fonts = np.array(SEEN_FONTS + UNSEEN_FONTS)
    seen = font_of < len(SEEN_FONTS)
    for chunk, start in enumerate(range(0, count, CHUNK)):
        random = np.random.RandomState([2, list(LETTER_SPLITS).index(split), chunk])
        wanted = ~seen if split == "test" and chunk % 2 else seen
        labels = integers(random, 0, len(LETTERS) - 1, CHUNK)
        choices = [np.flatnonzero(wanted & (letter_of == label)) for label in range(len(LETTERS))]
        picks = integers(random, 0, 10**6, CHUNK)
        glyphs = np.array(
            [choices[label][pick % len(choices[label])] for label, pick in zip(labels, picks, strict=True)]
        )
        masks = place(*draw(fields[glyphs], random), random, sharpest=64)
        images, photos = compose(masks, random)
        pictures = Pictures(images, labels, fonts[font_of[glyphs]], masks, photos)
        yield Pictures(*(part[: count - start] for part in pictures))


def integers(random: np.random.RandomState, low: int, high: int, *shape: int) -> np.ndarray:
    """Draw int64 from low to high, both included; a fixed dtype, because the stream depends on it."""
    return random.randint(low, high + 1, shape, dtype=np.int64)


# ---------------------------------------------------------------- strokes on a few cells become a mask


@cache
def cubic_weights() -> np.ndarray:
    """Return the weight (scale 2**12) of a cell by blur and distance (unit 1/256 cell): float64 (17, 513).

    Blur 0 is the interpolating Catmull-Rom spline, 16 the smoothing B-spline, between them a mixture: the
    line C = (1 - B) / 2 of Mitchell and Netravali, "Reconstruction filters in computer graphics" (1988).
    """
    d = np.arange(513)
    one, two, three, unit = d << 16, (d * d) << 8, d * d * d, 1 << 24  # d, d**2, d**3 and 1 at scale 2**24
    near = d < 256
    # The two branches of each kernel, times 6.
    smooth = np.where(near, 4 * unit - 6 * two + 3 * three, 8 * unit - 12 * one + 6 * two - three)
    sharp = np.where(near, 6 * unit - 15 * two + 9 * three, 12 * unit - 24 * one + 15 * two - 3 * three)
    blur = np.arange(17)[:, None]
    return ((blur * smooth + (16 - blur) * sharp) // (16 * 6) >> 12).astype(np.float64)


def place(strokes: np.ndarray, cells: np.ndarray, random: np.random.RandomState, sharpest: int) -> np.ndarray:
    """Scale strokes to a random size and place: masks uint8 (n, SIZE, SIZE), 255 = covered.

    strokes: int64 (n, width, width), 0 to 255. cells (n,): a picture's strokes are its first cells x cells,
    the rest is 0. sharpest: the steepest edge, in sixteenths of what plain scaling gives.
    """
    n, width = strokes.shape[:2]
    cells = cells[:, None, None]
    blur = integers(random, 0, 16, n)[:, None, None]
    side = integers(random, 4 * 34, 4 * 62, n)  # quarter pixels
    weights = []
    for _ in "yx":
        stretched = side * integers(random, 218, 256, n) >> 8
        first = (4 * SIZE - stretched) * integers(random, 0, 256, n) >> 8
        # Cell j has its centre at first + (2 j + 1) stretched / (2 cells), pixel i at 4 i + 2.
        pixel = (4 * np.arange(SIZE) + 2)[None, :, None]
        cell = np.arange(width)[None, None, :]
        first, stretched = first[:, None, None], stretched[:, None, None]
        distance = ((pixel - first) * 2 * cells - (2 * cell + 1) * stretched) * 128 // stretched
        weights.append(cubic_weights()[blur, np.minimum(np.abs(distance), 512)])
    scaled = weights[0] @ strokes.astype(np.float64) @ weights[1].transpose(0, 2, 1)
    scaled = scaled.astype(np.int64) >> 24
    # A faint stroke (thin, or averaged away) is made to reach full cover too, by its own peak.
    peak = scaled.reshape(n, -1).max(axis=1)[:, None, None] * 7 // 8
    middle = np.minimum(integers(random, 84, 132, n)[:, None, None], peak // 2)  # lower: a heavier stroke
    steep = np.maximum(
        integers(random, 20, sharpest, n)[:, None, None], 127 * 16 // np.maximum(peak - middle, 1) + 1
    )
    return np.clip(((scaled - middle) * steep >> 4) + 128, 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- the photo beneath, and the colours


@cache
def photo_pyramids() -> tuple[np.ndarray, ...]:
    """Return scikit-learn's two photos at 1, 1/2, 1/3 and 1/4 of their size: uint8 (height, width, 3)."""
    from sklearn.datasets import load_sample_images

    levels = []
    for photo in load_sample_images().images:
        for step in (1, 2, 3, 4):
            height, width = photo.shape[0] // step, photo.shape[1] // step
            blocks = photo[: height * step, : width * step].reshape(height, step, width, step, 3)
            levels.append((blocks.sum(axis=(1, 3), dtype=np.int64) // step**2).astype(np.uint8))
    return tuple(levels)


def crops(count: int, random: np.random.RandomState, size: int = SIZE) -> np.ndarray:
    """Return random crops of the photos, half of them mirrored: uint8 (count, size, size, 3); size <= 106."""
    levels = photo_pyramids()
    cropped = np.empty((count, size, size, 3), np.uint8)
    for i, (level, y, x, mirrored) in enumerate(integers(random, 0, 10**6, count, 4)):
        photo = levels[level % len(levels)]
        y, x = y % (photo.shape[0] - size + 1), x % (photo.shape[1] - size + 1)
        crop = photo[y : y + size, x : x + size]
        cropped[i] = crop[:, ::-1] if mirrored % 2 else crop
    return cropped


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Return the luminance (BT.601, 0 to 255) of RGB in the last axis, as int32."""
    rgb = rgb.astype(np.int32)
    return (77 * rgb[..., 0] + 150 * rgb[..., 1] + 29 * rgb[..., 2]) >> 8


def compose(masks: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Paint masks in random colours over random crops: (images, photos), both uint8 (n, SIZE, SIZE, 3).

    The photo's contrast is lowered as far as it must be for the stroke to differ by LEAST_LOCAL_GAP of
    luminance from every pixel beneath it.
    """
    n = len(masks)
    photos = crops(n, random).astype(np.int32)
    light = luminance(photos)
    mean = light.reshape(n, -1).sum(axis=1) // SIZE**2
    brightness = integers(random, 40, 215, n)

    # The stroke is lighter or darker than the photo, by chance where there is room for both.
    room_above, room_below = 250 - brightness, brightness - 5
    lighter = np.where(
        np.minimum(room_above, room_below) >= LEAST_GAP,
        integers(random, 0, 1, n) == 1,
        room_above > room_below,
    )
    room = np.minimum(np.where(lighter, room_above, room_below), 180)
    gap = LEAST_GAP + (room - LEAST_GAP) * integers(random, 0, 256, n) // 256
    colours = stroke_colours(np.where(lighter, brightness + gap, brightness - gap), random)

    deviation = np.where(masks > 16, np.abs(light - mean[:, None, None]), 0).reshape(n, -1).max(axis=1)
    # 4 levels of reserve for rounding, and for what clipping to 0..255 takes from a saturated colour.
    contrast = np.minimum(
        integers(random, 96, 256, n), (gap - LEAST_LOCAL_GAP - 4) * 256 // np.maximum(deviation, 1)
    )
    photos -= mean.astype(np.int32)[:, None, None, None]
    photos *= contrast.astype(np.int32)[:, None, None, None]
    photos >>= 8
    photos += brightness.astype(np.int32)[:, None, None, None]
    np.clip(photos, 0, 255, out=photos)

    covered = masks[..., None].astype(np.int32)
    covered += covered >> 7  # 0 to 256
    images = colours.astype(np.int32)[:, None, None, :] - photos
    images *= covered
    images >>= 8
    images += photos
    return images.astype(np.uint8), photos.astype(np.uint8)


def stroke_colours(wanted: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Return random colours of the wanted luminance (n,): int64 (n, 3), 0 to 255."""
    tints = integers(random, 0, 255, len(wanted), 3)
    tints -= luminance(tints)[:, None]
    # As much of the tint as keeps every channel in range.
    room = np.where(tints > 0, 255 - wanted[:, None], wanted[:, None])
    share = np.minimum(256, (room * 256 // np.maximum(np.abs(tints), 1)).min(axis=1))
    return np.clip(wanted[:, None] + (tints * share[:, None] >> 8), 0, 255)


# ---------------------------------------------------------------- letters: outlines, distance fields, shapes


@cache
def distance_fields() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every letter of every font as a field of distances to its outline, with its class and its font.

    fields: int16 (glyphs, FIELD, FIELD), unit 1/16 cell of the field, positive inside. letters and fonts:
    int64 (glyphs,), indices into LETTERS and SEEN_FONTS + UNSEEN_FONTS.
    """
    import matplotlib
    from fontTools.ttLib import TTFont
    from scipy.ndimage import distance_transform_edt

    # The Computer Modern files carry dates that fontTools warns of, once per file.
    logging.getLogger("fontTools.ttLib.tables._h_e_a_d").setLevel(logging.ERROR)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    letters = [(label, letter) for label, letter in enumerate(LETTERS)]
    letters += [(LETTERS.index(letter), letter.lower()) for letter in MERGED]
    fine = 2  # the outline is filled at twice the field's resolution
    fields, letter_of, font_of = [], [], []
    for font_number, name in enumerate(SEEN_FONTS + UNSEEN_FONTS):
        with TTFont(folder / f"{name}.ttf") as font:
            glyphs, names = font.getGlyphSet(), font.getBestCmap()
            for label, letter in letters:
                inside = fill(outline(glyphs, names[ord(letter)]), FIELD * fine, GLYPH * fine)
                # Distances are square roots of integers, which every machine rounds alike.
                signed = distance_transform_edt(inside) - distance_transform_edt(~inside)
                signed = np.rint(signed * (16 // fine)).astype(np.int64)
                means = signed.reshape(FIELD, fine, FIELD, fine).sum(axis=(1, 3)) // fine**2
                fields.append(means.astype(np.int16))
                letter_of.append(label)
                font_of.append(font_number)
    return np.array(fields), np.array(letter_of), np.array(font_of)


def outline(glyphs, name: str) -> list[np.ndarray]:
    """Return a TrueType glyph's closed curves as polygons: int64 (points, 2), x and y in 1/64 font unit."""
    from fontTools.pens.basePen import decomposeQuadraticSegment
    from fontTools.pens.recordingPen import DecomposingRecordingPen

    pen = DecomposingRecordingPen(glyphs)
    glyphs[name].draw(pen)
    polygons, points = [], []
    for command, arguments in pen.value:
        arguments = [point and (round(point[0] * 64), round(point[1] * 64)) for point in arguments]
        if command == "qCurveTo":
            if arguments[-1] is None:  # a closed curve without a point on it: begin between the last two
                first, last = arguments[0], arguments[-2]
                points = [((first[0] + last[0]) // 2, (first[1] + last[1]) // 2)]
                arguments[-1] = points[0]
            for control, end in decomposeQuadraticSegment(arguments):
                start, steps = points[-1], 8
                for t in range(1, steps + 1):
                    points.append(
                        tuple(
                            int((steps - t) ** 2 * a + 2 * t * (steps - t) * b + t**2 * c) // steps**2
                            for a, b, c in zip(start, control, end, strict=True)
                        )
                    )
        elif command in ("moveTo", "lineTo"):
            points = points + arguments if command == "lineTo" else list(arguments)
        elif command in ("closePath", "endPath"):
            polygons.append(np.array(points, dtype=np.int64))
            points = []
        else:
            raise ValueError(
                f"Received the outline command {command!r} in glyph {name!r}, unknown to TrueType."
            )
    return polygons


def fill(polygons: list[np.ndarray], size: int, longer: int) -> np.ndarray:
    """Fill polygons by the non-zero winding rule: bool (size, size), True inside.

    They are centred and scaled so that their longer side is `longer` cells. A cell is inside when its centre
    is. Row 0 is the top.
    """
    every = np.concatenate(polygons)
    low, extent = every.min(axis=0), np.ptp(every, axis=0)
    winding = np.zeros((size, size + 1), np.int64)
    grid = 256  # steps per cell
    for polygon in polygons:
        scaled = ((polygon - low) * 2 - extent) * longer * grid // (2 * extent.max()) + size * grid // 2
        for (x0, y0), (x1, y1) in zip(scaled, np.roll(scaled, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            direction = 1 if y1 > y0 else -1
            low_y, high_y = min(y0, y1), max(y0, y1)
            # Rows whose centre (row + 1/2) * grid lies in [low_y, high_y).
            rows = np.arange(-((grid // 2 - low_y) // grid), -((grid // 2 - high_y) // grid))
            crossing = x0 + (x1 - x0) * (rows * grid + grid // 2 - y0) // (y1 - y0)
            columns = np.clip(-((grid // 2 - crossing) // grid), 0, size)
            np.add.at(winding, (size - 1 - rows, columns), direction)
    return winding.cumsum(axis=1)[:, :size] != 0


def draw(fields: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Draw distance fields (n, FIELD, FIELD) with random shapes: (strokes, cells) as `place` takes them.

    Rotation, shear and stretch, a smooth random displacement, a heavier or lighter stroke on CELLS x CELLS;
    then, for most, averaging over 2 x 2 or 4 x 4 cells, so that 16 or 8 a side are all that is left: letters
    seen from far off.
    """
    n = len(fields)
    # Rotation from t = tan(half the angle), in 1/256: cos = (1 - t t) / (1 + t t), sin = 2 t / (1 + t t).
    t = integers(random, -45, 45, n)  # up to 20 degrees
    cos, sin = (65536 - t * t) * 256 // (65536 + t * t), 131072 * t // (65536 + t * t)
    shear = integers(random, -90, 90, n)
    wide, high = integers(random, 215, 330, n), integers(random, 215, 290, n)
    # From cells to the field: unit 1/256 cell of the field, of which 48 span the CELLS.
    centre = (2 * np.arange(CELLS) - CELLS + 1) * (48 * 128) // CELLS
    y, x = centre[None, :, None], centre[None, None, :]
    cos, sin, shear, wide, high = (a[:, None, None] for a in (cos, sin, shear, wide, high))
    u = wide * (cos * x + sin * y) // 65536
    v = high * (cos * y - sin * x) // 65536
    u = u + shear * v // 256

    # A smooth displacement: a cubic spline through 5 x 5 random vectors, up to about 3 cells of the field.
    knots = np.arange(5)[None, :] * 256
    distance = np.abs(np.arange(CELLS)[:, None] * 1024 // (CELLS - 1) - knots)
    spline = cubic_weights()[16, np.minimum(distance, 512)]
    amount = integers(random, 0, 1000, n)[:, None, None]
    push = integers(random, -1000, 1000, 2, n, 5, 5) * amount // 1000
    push_u, push_v = (spline @ push.astype(np.float64) @ spline.T).astype(np.int64) >> 24
    u = np.clip(u + push_u + FIELD * 128 - 128, 0, (FIELD - 1) * 256 - 1)
    v = np.clip(v + push_v + FIELD * 128 - 128, 0, (FIELD - 1) * 256 - 1)

    # Bilinear sampling of the field, then coverage: a ramp from outside to inside about 1.5 field cells wide.
    flat = np.ascontiguousarray(fields).reshape(-1).astype(np.int64)
    corner = (np.arange(n) * FIELD**2)[:, None, None] + (v >> 8) * FIELD + (u >> 8)
    du, dv = u & 255, v & 255
    above = flat[corner] * (256 - du) + flat[corner + 1] * du
    below = flat[corner + FIELD] * (256 - du) + flat[corner + FIELD + 1] * du
    distance = (above * (256 - dv) + below * dv) >> 16
    coarse = integers(random, 0, 9, n)  # of ten: three stay at 32 cells, three go to 16, four to 8
    step = np.where(coarse < 3, 1, np.where(coarse < 6, 2, 4))
    weight = integers(random, -4, 28, n)[:, None, None] + 2 * step[:, None, None]
    strokes = np.clip((distance + weight) * 10 + 128, 0, 255)
    for size in (2, 4):
        few = CELLS // size
        part = strokes[step == size].reshape(-1, few, size, few, size).sum(axis=(2, 4)) // size**2
        strokes[step == size] = 0
        strokes[step == size, :few, :few] = part
    return strokes, CELLS // step
