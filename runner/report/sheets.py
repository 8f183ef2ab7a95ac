"""Pictures for people: uint8 arrays become data URIs for a page and contact sheets for a notebook."""

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runner.errors import InputError


def data_uri(image: np.ndarray, side: int | None = None, *, form: str = "webp", quality: int = 82) -> str:
    """Return `image` as a "data:image/..." URI.

    Args:
        image: uint8 (h, w), (h, w, 1), (h, w, 3) or (h, w, 4).
        side: the longer side is shrunk to this many pixels; a smaller picture is left as it is.
        form: "webp" (lossy, small) or "png" (exact).
        quality: of WebP, 0 to 100.
    """
    if form not in ("webp", "png"):
        raise InputError(f"Received form '{form}'; allowed are 'webp' and 'png': choose one.")
    picture = _shrink(_to_pillow(image), side)
    buffer = io.BytesIO()
    picture.save(
        buffer, form.upper(), **({"quality": quality, "method": 6} if form == "webp" else {"optimize": True})
    )
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def sheet(
    images: Sequence[np.ndarray], captions: Sequence[str] | None = None, *, columns: int = 8, side: int = 96
) -> np.ndarray:
    """Return a contact sheet, uint8 (height, width, 3): white, `columns` pictures a row, captions below.

    Each picture (uint8, as for `data_uri`) is scaled to fit a square of `side` pixels; a caption of more than
    two lines is cut with an ellipsis. `plt.imshow(sheet(...))` or `PIL.Image.fromarray(sheet(...))` shows it.
    """
    images = list(images)
    captions = [""] * len(images) if captions is None else [str(caption) for caption in captions]
    if not images or len(captions) != len(images):
        raise InputError(
            f"Received {len(images)} pictures and {len(captions)} captions: give at least one, and one each."
        )
    size = max(9, side // 8)
    letters_font = font(size)
    gap, line = max(4, side // 16), round(size * 1.25)
    letters = max(4, int((side + gap) / (0.58 * size)))  # 0.58 em: DejaVu Sans' mean advance
    wrapped = [textwrap.wrap(caption, letters, max_lines=2, placeholder="…") for caption in captions]
    below = line * max(len(lines) for lines in wrapped)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (gap + columns * (side + gap), gap + rows * (side + below + gap)), "white")
    draw = ImageDraw.Draw(page)
    for position, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        left = gap + position % columns * (side + gap)
        top = gap + position // columns * (side + below + gap)
        picture = _to_pillow(image).convert("RGB")
        scale = side / max(picture.size)
        fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # Enlarging keeps hard pixels: a 32 px picture should look like one.
        picture = picture.resize(fitted, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
        page.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
        for number, text in enumerate(lines):
            draw.text((left, top + side + number * line), text, fill=(40, 40, 40), font=letters_font)
    return np.asarray(page)


def _to_pillow(image):
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if (
        image.dtype != np.uint8
        or image.size == 0
        or not (image.ndim == 2 or image.ndim == 3 and image.shape[-1] in (3, 4))
    ):
        raise InputError(
            f"Received a picture of type {image.dtype} and shape {image.shape}; allowed is uint8 (height, "
            "width) with 1, 3 or 4 channels: convert it, scaled to 0 to 255."
        )
    return Image.fromarray(image)


def _shrink(picture, side):
    if side is None or max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(fitted, Image.Resampling.LANCZOS)


def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from Matplotlib: it is on every machine and has far more letters than Pillow's own font."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
