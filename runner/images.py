"""A picture file becomes upright 8-bit RGB, or an `Unreadable` that says why; nothing else can happen.

Reads what Pillow reads without outside programs (JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, JPEG 2000, PPM; HEIC
when pillow-heif is registered), by content and whatever the file is called. Colour profiles are ignored.
"""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

RESIZES = ("crop", "pad", "stretch")
MAX_PIXELS = 100_000_000  # decoded, 300 MB; a small file can claim billions

# Never "everything Pillow knows": its EPS reader starts Ghostscript on the file.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_HEIC_SUFFIXES = (".heic", ".heif")
_UPRIGHT = {
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


def decode(file: str | Path | bytes) -> tuple[Image.Image, str]:
    """Decode one picture, given as a path or as the bytes of a file, to (RGB picture, note).

    The note says what was lost or chosen on the way and is "" for most files: transparency is laid on white,
    CMYK is converted without its profile, 16-bit gray keeps its high byte, an animation gives its first
    frame. EXIF rotation, palettes, gray and 1-bit pictures convert without loss. Raises `Unreadable` for
    everything else, also for a picture of more than MAX_PIXELS, before it is decoded.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_formats()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Unreadable(
                    f"{width} x {height} pixels; at most {MAX_PIXELS:,} are decoded: make it smaller"
                )
            image.load()
            rgb, notes = _rgb(image)
            rgb = _upright(image, rgb)
            notes += _frames(image)
        return rgb, "; ".join(notes)
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable(_not_a_picture(file)) from None
    except Image.DecompressionBombError:
        raise Unreadable(f"claims more than {MAX_PIXELS:,} pixels: make it smaller") from None
    except MemoryError:
        raise Unreadable("does not fit in memory when decoded: make it smaller") from None
    except Exception as error:
        # Pillow's readers raise almost anything on broken files: struct.error, IndexError, OSError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(f"cannot be decoded: {reason}") from None


def resize(image: Image.Image, size: int, how: str = "crop") -> np.ndarray:
    """Return an RGB picture as uint8 (size, size, 3), antialiased with a triangle filter.

    how: "crop" scales the short side and cuts the centre, "pad" scales the long side and adds black,
    "stretch" changes the proportions. A picture that is size x size already comes back pixel by pixel.
    """
    width, height = image.size
    if how == "stretch":
        resized = image.resize((size, size), Image.Resampling.BILINEAR)
    elif how == "crop":
        # Cut first: the other way round a 1 x 5000 strip would grow to 64 x 320000 in between.
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        resized = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    elif how == "pad":
        scale = size / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        resized = Image.new("RGB", (size, size))
        corner = ((size - inner[0]) // 2, (size - inner[1]) // 2)
        resized.paste(image.resize(inner, Image.Resampling.BILINEAR), corner)
    else:
        raise ValueError(f"Received resize={how!r}; allowed: {', '.join(RESIZES)}.")
    return np.asarray(resized)


def digest(image: Image.Image) -> str:
    """Return the SHA-256 (hex) of an RGB picture's size and pixels: the same for one picture saved twice."""
    sha = hashlib.sha256(f"{image.width} x {image.height}\n".encode())
    sha.update(image.tobytes())
    return sha.hexdigest()


def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return a decoded picture of any mode as RGB, and what was lost."""
    # Pillow before 11 opens 16-bit gray PNG as "I"; PPM is scaled to 16 bits and "I" in all of them.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB"), ["16-bit gray, of which the high 8 bits are kept"]
    if image.mode in ("I", "F"):
        raise Unreadable("32-bit pixels, whose white is not defined: save it with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] < 255:
            white = Image.new("RGBA", rgba.size, "white")
            return Image.alpha_composite(white, rgba).convert("RGB"), ["transparent, laid on white"]
        return rgba.convert("RGB"), []
    if image.mode == "CMYK":
        return image.convert("RGB"), ["CMYK, converted without a colour profile"]
    return image.convert("RGB"), []


def _upright(image: Image.Image, rgb: Image.Image) -> Image.Image:
    """Turn the pixels as the EXIF orientation says; a broken EXIF block turns nothing."""
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # a damaged block of metadata is no reason to lose the picture
        return rgb
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


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
    empty = len(file) == 0 if isinstance(file, bytes) else os.path.getsize(file) == 0
    if empty:
        return "the file is empty"
    if not isinstance(file, bytes) and Path(file).suffix.lower() in _HEIC_SUFFIXES:
        return "a HEIC photo, which Pillow does not read: convert it to JPEG"
    return "not a picture, or damaged at its start"
