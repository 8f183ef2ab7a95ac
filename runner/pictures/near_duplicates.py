"""Pictures that show the same thing again: re-saved, resized, slightly cut, brightened, mirrored or turned.

Works on small gray thumbnails (`images.look`), never on files. Two steps, as a perceptual hash goes: a few
numbers per picture propose pairs, and every pair is then compared pixel by pixel.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.fft import dctn, fft2
from scipy.ndimage import gaussian_filter
from sklearn.neighbors import NearestNeighbors

from runner.data import pairs

HOW = (
    pairs.SAME,
    "mirrored",
    "flipped top to bottom",
    "upside down",
    "turned right by 90° and mirrored",
    "turned right by 90°",
    "turned left by 90°",
    "turned left by 90° and mirrored",
)
"""The eight ways a square can lie. Number 4 a + 2 b + c: transposed (a), then flipped top to bottom
(b) and left to right (c)."""
SCORE = 8.3
"""The evidence (see `find`), in standard deviations, from which a pair counts. Measured on pictures that are
no copies, the highest: 8.2 among 10,000 handwritten digits, 7.6 among 4,840 sketches, 4.3 among 600 flower
photos, and of 66,000 letters on photos no pair comes as far. Nine in ten copies of photos reach 17 when saved
again (JPEG, quality 60), and 9.4 when cut by 2 %."""

_NEIGHBOURS = 6  # proposed per picture; a copy, cut by 3 % or saved again, is nearly always among them
_LARGEST_DISTANCE = 0.6  # between descriptors, of length 1; copies cut by 3 %: 0.30 in 95 of 100 cases
_FLAT = 1.0  # gray levels of detail below which a picture is empty and like every other empty one
_AT_ONCE = 512  # pictures or pairs: 512 x 1024 floats are 2 MB per array, small enough for a cache


def find(thumbnails: np.ndarray, colours: np.ndarray, pixels: Sequence[int]) -> pd.DataFrame:
    """Find the pairs among pictures whose pixels differ (exact copies are the caller's business).

    thumbnails: uint8 (n, 32, 32), gray; colours: uint8 (n, 8, 8, 2), Cb and Cr; pixels: how many each picture
    had. Returns a DataFrame, a row per pair: first < second (row numbers), how (of HOW: what second is of
    first), score; best first.

    Proposals: the 8 x 8 lowest DCT coefficients, as in the perceptual hash pHash, but as numbers rather than
    bits; their absolute values, sorted within each pair (u, v), (v, u), are the same for a picture mirrored
    or turned by 90 degrees, so that one search for nearest neighbours finds all eight ways at once.

    Evidence: what is left of the thumbnails without their coarse shading is compared, after shift and zoom
    of one onto the other (Gauss-Newton on the squared difference: Lucas and Kanade 1981). Its correlation r
    becomes Fisher's z = artanh(r), whose standard deviation is about 1 / sqrt(n) for n independent pixels.
    How many are independent is estimated from the detail d and its power spectrum P:
    n = (sum d^2)^2 / sum d^4 (how many pixels carry the detail: few in a digit on plain ground), times
    (sum P)^2 / (1024 sum P^2) (how many waves do: few in what is smooth or enlarged). So r = 0.9 is enough
    for two crowded photos, and r = 0.99 is not for two digits. Colours that differ while the shapes agree (a
    red and a blue disc) are no copies.
    """
    carrying, empty = _carrying(thumbnails, pixels)
    able = ~empty & (_evidence(1, carrying) >= SCORE)  # of the others no pixel-by-pixel copy would count
    first, second, way = _propose(thumbnails, np.flatnonzero(able))

    score = np.zeros(len(first))
    carried = np.minimum(carrying[first], carrying[second])
    for start in range(0, len(first), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        one = _laid(thumbnails[first[part]].astype(np.float32), way[part])
        other = thumbnails[second[part]].astype(np.float32)
        score[part] = _evidence(_correlation(one, other), carried[part])
        # Cutting 3 % off costs up to 0.4 of the correlation; moving one onto the other brings it back to 0.93
        # to 0.985, which is too little evidence where few pixels carry any.
        hopeful = (score[part] < SCORE) & (_evidence(0.985, carried[part]) >= SCORE)
        if not hopeful.any():
            continue
        moved = _moved(one[hopeful], other[hopeful])
        again = _evidence(_correlation(moved, other[hopeful], border=2), carried[part][hopeful])
        score[part][hopeful] = np.maximum(score[part][hopeful], again)
    same = score >= SCORE
    same[same] = _same_colours(_laid(colours[first[same]], way[same]), colours[second[same]])
    how = np.array(HOW, dtype=object)[way[same]]
    columns = (first[same], second[same], how, score[same].round(1))
    found = pd.DataFrame(dict(zip(pairs.COLUMNS, columns, strict=True)))
    return found.sort_values(["score", "first", "second"], ascending=[False, True, True], ignore_index=True)


def _propose(thumbnails: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first, second and the number of the way of HOW for the pairs worth a look among `rows`."""
    if len(rows) < 2:
        return (np.zeros(0, dtype=np.int64),) * 3
    waves = np.empty((len(rows), 8, 8), dtype=np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        waves[part] = dctn(thumbnails[rows[part]].astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8]
    across = np.hypot(*np.mgrid[:8, :8])
    waves *= np.sqrt(across)  # low waves are the strongest and the least telling; 0 for the mean
    waves /= np.maximum(np.linalg.norm(waves, axis=(1, 2), keepdims=True), 1e-6)
    sizes, upper, above = np.abs(waves), np.triu_indices(8), np.triu_indices(8, 1)
    turned = sizes.transpose(0, 2, 1)
    invariant = np.concatenate(
        [
            np.maximum(sizes, turned)[:, upper[0], upper[1]],
            np.minimum(sizes, turned)[:, above[0], above[1]],
        ],
        axis=1,
    ).astype(np.float32)
    near = NearestNeighbors(n_neighbors=min(_NEIGHBOURS + 1, len(rows)), algorithm="brute", n_jobs=-1)
    distance, neighbour = near.fit(invariant).kneighbors(invariant)
    place, column = np.nonzero(distance < _LARGEST_DISTANCE)
    found = np.sort(np.stack([place, neighbour[place, column]], axis=1), axis=1)
    found = np.unique(found[found[:, 0] != found[:, 1]], axis=0)
    first, second = found[:, 0], found[:, 1]

    # The DCT of a mirrored picture has other signs in every second column; of a transposed one, it is
    # transposed.
    apart = np.empty((len(HOW), len(found)), dtype=np.float32)
    sign = np.where(np.arange(8) % 2, -1, 1).astype(np.float32)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        one, other = waves[first[part]], waves[second[part]]
        for way, (transposed, down, right) in enumerate(itertools.product((0, 1), repeat=3)):
            laid = one.transpose(0, 2, 1) if transposed else one
            laid = laid * sign[:, None] if down else laid
            laid = laid * sign if right else laid
            apart[way, part] = np.linalg.norm(laid - other, axis=(1, 2))
    way = apart.argmin(axis=0)
    close = apart.min(axis=0) < _LARGEST_DISTANCE if len(found) else np.zeros(0, dtype=bool)
    return rows[first[close]], rows[second[close]], way[close]


def _carrying(thumbnails: np.ndarray, pixels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return how many independent pixels carry the detail of each picture, and which are empty."""
    carrying, empty = np.zeros(len(thumbnails)), np.zeros(len(thumbnails), dtype=bool)
    for start in range(0, len(thumbnails), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        detail = _sharp(thumbnails[part])
        squares, power = detail * detail, np.abs(fft2(detail)) ** 2
        energy, count = squares.sum((1, 2)), detail[0].size
        places = energy**2 / np.maximum((squares * squares).sum((1, 2)), 1e-9)
        waves = power.sum((1, 2)) ** 2 / np.maximum((power * power).sum((1, 2)), 1e-9)
        carrying[part] = places * waves / count * np.minimum(1, np.asarray(pixels[part]) / count)
        empty[part] = energy < _FLAT**2 * count
    return carrying, empty


def _laid(squares: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Lay each of the (n, side, side, ...) squares the way of its number in HOW."""
    laid = squares.copy()
    for number in np.unique(way):
        rows = way == number
        one = squares[rows]
        one = one.swapaxes(1, 2) if number & 4 else one
        one = one[:, ::-1] if number & 2 else one
        laid[rows] = one[:, :, ::-1] if number & 1 else one
    return laid


def _sharp(gray: np.ndarray) -> np.ndarray:
    """Take the coarse shading away: float32 (n, 32, 32) less itself blurred by two pixels."""
    gray = gray.astype(np.float32)
    return gray - gaussian_filter(gray, (0, 2, 2), truncate=2)


def _correlation(one: np.ndarray, other: np.ndarray, border: int = 0) -> np.ndarray:
    """Correlate the details of pictures (n, 32, 32), without `border` pixels at the edge: float32 (n,)."""
    inside = slice(border, one.shape[-1] - border)
    one, other = _sharp(one)[:, inside, inside], _sharp(other)[:, inside, inside]
    product = np.einsum("nij,nij->n", one, other)
    return product / np.sqrt(np.maximum((one**2).sum((1, 2)) * (other**2).sum((1, 2)), 1e-9))


def _evidence(correlation, carrying):
    return np.arctanh(np.clip(correlation, 0, 0.99999)) * np.sqrt(carrying)


def _moved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shift and zoom the pictures `one` by up to 12 % so that they lie on `other` (n, 32, 32)."""
    count, side = len(one), one.shape[-1]
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    soft, goal = gaussian_filter(one, (0, 1, 1), truncate=2), gaussian_filter(other, (0, 1, 1), truncate=2)
    goal = goal - goal.mean((1, 2), keepdims=True)
    place = np.zeros((count, 4), dtype=np.float32)  # shift right, shift down, zoom across, zoom down
    for _ in range(3):
        now = _sampled(soft, place, x, y)
        now -= now.mean((1, 2), keepdims=True)
        down, right = np.gradient(now, axis=(1, 2))
        down, right = down * (side - 1) / 2, right * (side - 1) / 2
        slopes = np.stack([right, down, right * x, down * y, now], axis=1).reshape(count, 5, -1)
        normal = slopes @ slopes.transpose(0, 2, 1)
        normal += 1e-4 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(5) + 1e-3 * np.eye(5)
        step = np.linalg.solve(normal, slopes @ goal.reshape(count, -1, 1))[..., 0]
        gain = np.where(np.abs(step[:, 4:]) < 0.3, 1, step[:, 4:])
        place = np.clip(place + step[:, :4] / gain, -0.12, 0.12).astype(np.float32)
    return _sampled(one, place, x, y)


def _sampled(pictures: np.ndarray, place: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read pictures at zoomed and shifted places; shift and zoom act on each axis alone, so they are two
    small matrices of linear interpolation."""
    last = pictures.shape[-1] - 1

    def weights(shift: np.ndarray, zoom: np.ndarray) -> np.ndarray:
        at = np.clip((x[0] * (1 + zoom[:, None]) + shift[:, None] + 1) * last / 2, 0, last)
        return np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(last + 1, dtype=np.float32)))

    rows, columns = weights(place[:, 1], place[:, 3]), weights(place[:, 0], place[:, 2])
    return rows @ pictures @ columns.transpose(0, 2, 1)


def _same_colours(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compare Cb and Cr (n, 8, 8, 2): bool (n,). A gray copy of a coloured picture passes."""
    one, other = one.astype(np.float32) - 128, other.astype(np.float32) - 128
    strength, strength_of_other, difference = (
        (values**2).mean((1, 2, 3)) for values in (one, other, one - other)
    )
    gray = np.minimum(strength, strength_of_other) < 4  # two levels: what JPEG does to gray
    # 36: six levels, which a white balance does
    return gray | (difference < 36) | (difference < 0.5 * (strength + strength_of_other))
