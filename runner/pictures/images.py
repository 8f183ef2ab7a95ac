"""A picture file becomes upright 8-bit RGB, or an `Unreadable` that says why; nothing else can happen.

Reads what Pillow reads without outside programs (JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, JPEG 2000, PPM; HEIC
where pillow-heif is installed), by content and whatever the file is called. Colour profiles are ignored.
"""

import contextlib
import ctypes
import errno
import functools
import hashlib
import io
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

MEMORY = 850_000_000
"""Bytes that pictures may take while they are read, over all threads of the process."""
MAX_PIXELS = 70_000_000
"""A small file can claim billions. Some formats have less, see _BYTES_PER_PIXEL."""
MAX_FILE = 450_000_000
"""Bytes of a file: MAX_PIXELS of 16-bit RGB, not compressed."""
DARK = 31
"""A picture whose values all lie at or below this, of 255, is told: 12 of 16 bits used end at 15."""
MAX_SCANS = 100
"""A progressive JPEG has about ten; each passes over the whole picture and may be 20 bytes long."""

# Never "everything Pillow knows": its EPS reader starts Ghostscript on the file.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# What reading a pixel takes at its peak, measured: 4 for the RGB picture, which Pillow keeps in four bytes,
# and 8 for a second copy or the coefficients of a progressive JPEG. The libraries of these formats make
# copies of their own besides, and hold the whole file; HEIF is taken to be like AVIF.
_BYTES_PER_PIXEL: dict[str | None, int] = {"AVIF": 16, "HEIF": 16, "JPEG2000": 25, "WEBP": 18}
_OTHER_BYTES_PER_PIXEL = 12
_TRIM = 50_000_000  # bytes; what the C library keeps of less is little
# Of a JPEG; the bytes after \xff that stand within a scan are left out.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_HEIC_SUFFIXES = (".heic", ".heif")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_UPRIGHT: dict[int | None, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(ValueError):
    """A file is not a picture that can be decoded right; the message is one line that says why."""


@contextlib.contextmanager
def decoded(file: str | Path | bytes) -> Iterator[tuple[Image.Image, str]]:
    """`decode` for many threads: the picture is there up to the end of the block, then its memory is free.

        with images.decoded(path) as (image, note):
            pixels = square.resize(image, 224)

    A thread waits here while the others' pictures and its own would together need more than MEMORY bytes. So
    don't open a second picture within the block: two threads that do can wait for each other.
    """
    with contextlib.ExitStack() as stack:
        with _refusals(file):
            _check_file(file)
            source = io.BytesIO(file) if isinstance(file, bytes) else file
            image = stack.enter_context(Image.open(source, formats=_formats()))
            stack.enter_context(_memory(_needed(image, file)))
            rgb, note = _read(image)
        try:
            yield rgb, note
        finally:
            rgb.close()  # the caller's name for it lives on


def decode(file: str | Path | bytes) -> tuple[Image.Image, str]:
    """Decode one picture, given as a path or as the bytes of a file, to (RGB picture, note).

    The note says what was lost or chosen on the way and is "" for most files: transparency is laid on white,
    CMYK is converted without its profile, 16-bit gray keeps its high byte, an animation gives its first
    frame. EXIF rotation, palettes, gray and 1-bit pictures convert without loss. Raises `Unreadable` for
    everything else, also, before it is decoded, for a picture of more than MAX_PIXELS, or of so many in its
    format that reading it would take more than MEMORY bytes.
    """
    with decoded(file) as (image, note):
        return image.copy(), note


def digest(image: Image.Image) -> str:
    """Return the SHA-256 (hex) of an RGB picture's size and pixels: the same for one picture saved twice."""
    sha = hashlib.sha256(f"{image.width} x {image.height}\n".encode())
    for _, band in _bands(image):
        sha.update(band.tobytes())
    return sha.hexdigest()


# ---------------------------------------------------------------- refusing


@contextlib.contextmanager
def _refusals(file: str | Path | bytes) -> Iterator[None]:
    """Whatever reading a file raises becomes `Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable(_not_a_picture(file)) from None
    except Image.DecompressionBombError:
        raise Unreadable(f"claims more than {MAX_PIXELS:,} pixels: make it smaller") from None
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise Unreadable(_reason(error)) from None
        link = not isinstance(file, bytes) and os.path.islink(file)
        raise Unreadable("a link that leads nowhere" if link else "is not there") from None
    except MemoryError:
        raise Unreadable("does not fit in memory when decoded: make it smaller") from None
    except Exception as error:
        # Pillow's readers raise almost anything on broken files: struct.error, IndexError, OSError, ...
        raise Unreadable(_reason(error)) from None


def _reason(error: Exception) -> str:
    return f"cannot be decoded: {' '.join(str(error).split()) or type(error).__name__}"


def _check_file(file: str | Path | bytes) -> None:
    if _size(file) > MAX_FILE:
        raise Unreadable(
            f"a file of {_size(file):,} bytes; at most {MAX_FILE:,} are read: make the picture smaller"
        )


def _size(file: str | Path | bytes) -> int:
    return len(file) if isinstance(file, bytes) else os.path.getsize(file)


def _needed(image: Image.Image, file: str | Path | bytes) -> int:
    """Return the bytes that reading an opened picture takes; refuse too many of them, or of scans."""
    width, height = image.size
    each = _BYTES_PER_PIXEL.get(image.format, _OTHER_BYTES_PER_PIXEL)
    whole = _size(file) if image.format in _BYTES_PER_PIXEL else 0
    most = min(MAX_PIXELS, (MEMORY - whole) // each)
    if width * height > most:
        raise Unreadable(f"{width} x {height} pixels; at most {most:,} are decoded: make it smaller")
    if image.format in ("JPEG", "MPO"):
        scans = _scans(file if isinstance(file, bytes) else Path(file).read_bytes())
        if scans > MAX_SCANS:
            raise Unreadable(f"a JPEG of {scans:,} scans; at most {MAX_SCANS} are decoded: save it anew")
    return width * height * each + whole


def _scans(jpeg: bytes) -> int:
    """Count the scans of a JPEG up to its end: phones append a second picture or a film."""
    place, scans = 2, 0
    while marker := _MARKER.search(jpeg, place):
        place = marker.end()
        if marker[1] == b"\xd9":  # the end
            break
        scans += marker[1] == b"\xda"
        place += int.from_bytes(jpeg[place : place + 2], "big")
    return scans


_room = threading.Condition()
_taken = 0


@contextlib.contextmanager
def _memory(wanted: int) -> Iterator[None]:
    """Wait until so many bytes of MEMORY are free, and hold them."""
    global _taken
    with _room:
        _room.wait_for(lambda: _taken == 0 or _taken + wanted <= MEMORY)
        _taken += wanted
    try:
        yield
    finally:
        if wanted >= _TRIM:
            _trim()
        with _room:
            _taken -= wanted
            _room.notify_all()


def _trim() -> None:
    """Give freed memory to the system: glibc keeps as much for each thread as its largest picture took."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library has no such function
        ctypes.CDLL(None).malloc_trim(0)


# ---------------------------------------------------------------- converting


class Look(NamedTuple):
    """What `look` measures of a picture."""

    width: int  # pixels, upright
    height: int
    format: str  # "JPEG", "PNG", ..., by content
    gray: bool  # three equal channels, but for what JPEG does to them
    turned: bool  # EXIF said how to turn it upright
    thumbnail: np.ndarray  # uint8 (32, 32): gray, the whole picture whatever its proportions
    colour: np.ndarray  # uint8 (8, 8, 2): Cb and Cr of the same


def look(file: str | Path | bytes, image: Image.Image) -> Look:
    """Measure a picture for the checks of the data; `image` is what `decode(file)` gave. 1.2 kB each."""
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_formats()) as header:
        kind = header.format or ""
    small = image.resize((32, 32), Image.Resampling.BILINEAR, reducing_gap=3).convert("YCbCr")
    luma = np.asarray(small)[..., 0]
    colour = np.asarray(small.resize((8, 8), Image.Resampling.BOX))[..., 1:]
    gray = bool(colour.min() >= 126 and colour.max() <= 130)
    # The decoded picture still carries the EXIF block of its file; asking a PNG file for it decodes it again.
    turned = _orientation(image) in _UPRIGHT
    return Look(image.width, image.height, kind, gray, turned, luma, colour)


def dark(image: Image.Image) -> str:
    """Say that an RGB picture shows nothing, or next to nothing: it has one colour, or no value above DARK.
    "" for any other.
    """
    extremes: Any = image.getextrema()
    if all(low == high for low, high in extremes):
        return f"is of one colour, #{bytes(low for low, _ in extremes).hex()}, and shows nothing"
    brightest = max(high for _, high in extremes)
    if brightest <= DARK:
        return (
            f"is nearly black: its brightest value is {brightest} of 255; save it with its values scaled up"
        )
    return ""


@functools.cache
def _read_heic() -> None:
    """Teach Pillow to read HEIC, where pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


def _formats() -> list[str]:
    Image.init()
    _read_heic()
    return [name for name in _FORMATS if name in Image.OPEN]


def _read(image: Image.Image) -> tuple[Image.Image, str]:
    """Decode an opened picture to upright RGB, and say what was lost or chosen."""
    image.load()
    rgb, notes = _rgb(image)
    turn = _UPRIGHT.get(_orientation(image))
    notes += _frames(image)
    if "exif" in image.info:  # not every way to RGB keeps it, and `look` asks for it
        rgb.info["exif"] = image.info["exif"]
    image.close()  # gives its pixels back before the next copy
    return rgb if turn is None else rgb.transpose(turn), "; ".join(notes)


def _rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return a decoded picture of any mode as RGB, and what was lost."""
    # Pillow before 11 opens 16-bit gray PNG as "I"; PPM is scaled to 16 bits and "I" in all of them.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        rgb, largest = Image.new("RGB", image.size), 0
        for top, band in _bands(image):
            values = np.asarray(band)
            largest = max(largest, int(values.max()))
            rgb.paste(Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB"), (0, top))
        used = f", and its largest value is {largest} of 65535" if largest < 2**13 else ""
        return rgb, [f"16-bit gray, of which the high 8 bits are kept{used}"]
    if image.mode in ("I", "F"):
        raise Unreadable("32-bit pixels, whose white is not defined: save it with 8 or 16 bits")
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode == "CMYK":
        return image.convert("RGB"), ["CMYK, converted without a colour profile"]
    return image.convert("RGB"), []


def _on_white(image: Image.Image) -> tuple[Image.Image, list[str]]:
    rgb, lowest = Image.new("RGB", image.size), 255
    for top, band in _bands(image):
        band = band.convert("RGBA")
        lowest = min(lowest, int(np.asarray(band.getchannel("A")).min()))
        white = Image.new("RGBA", band.size, "white")
        rgb.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return rgb, ["transparent, laid on white"] if lowest < 255 else []


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Cut a picture into bands of about a million pixels, each with its top row: copies of them are small."""
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _orientation(image: Image.Image) -> int | None:
    """Return what the EXIF block says; a broken one turns nothing."""
    try:
        return image.getexif().get(0x0112)
    except Exception:  # a damaged block of metadata is no reason to lose the picture
        return None


def _frames(image: Image.Image) -> list[str]:
    """Say that there was more than one picture. Called last: looking for a second frame moves the reader."""
    if image.format not in (
        "GIF",
        "PNG",
        "WEBP",
        "TIFF",
        "AVIF",
    ):  # phones write a second picture in JPEG files
        return []
    try:
        several = getattr(image, "is_animated", False)
    except Exception:  # the second frame is broken; the first is what is used
        several = True
    return ["several frames, of which the first is used"] if several else []


def _not_a_picture(file: str | Path | bytes) -> str:
    if _size(file) == 0:
        return "the file is empty"
    if isinstance(file, bytes):
        start = file[:12]
    else:
        with open(file, "rb") as opened:
            start = opened.read(12)
    # Telephones write HEIC, and some call it .jpg.
    heic = start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS
    if heic or (not isinstance(file, bytes) and Path(file).suffix.lower() in _HEIC_SUFFIXES):
        if "HEIF" in Image.OPEN:
            return "a HEIC photo, damaged or of a kind that pillow-heif does not read"
        return "a HEIC photo that cannot be read: `pip install pillow-heif`, or convert it to JPEG"
    return "not a picture, or damaged at its start"
