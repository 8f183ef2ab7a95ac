"""Every odd kind of picture file is decoded right or refused with a reason."""

import hashlib
import io
import struct
import sys
import threading
import types
import zlib

import numpy as np
import pytest
from PIL import Image

from runner.pictures import images, square

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # data.load silences these too


def gradient(width=12, height=8) -> np.ndarray:
    """Pixels that differ everywhere: red grows to the right, green downwards, blue is constant."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[..., 0] = np.arange(width) * 20
    pixels[..., 1] = np.arange(height)[:, None] * 30
    return pixels


def encode(image, format="PNG", **options) -> bytes:
    file = io.BytesIO()
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    image.save(file, format, **options)
    return file.getvalue()


def decoded(file) -> np.ndarray:
    image, _ = images.decode(file)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF"])
def test_lossless_formats_come_back_pixel_by_pixel(format):
    options = {"lossless": True} if format == "WEBP" else {}
    picture = Image.fromarray(gradient())
    picture = picture.quantize(256) if format == "GIF" else picture
    expected = np.asarray(picture.convert("RGB"))
    image, note = images.decode(encode(picture, format, **options))
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert note == ""


def test_the_name_of_a_file_does_not_matter(tmp_path):
    (tmp_path / "picture.jpg").write_bytes(encode(gradient(), "PNG"))
    np.testing.assert_array_equal(decoded(tmp_path / "picture.jpg"), gradient())


def test_jpeg_is_near():
    assert np.abs(decoded(encode(gradient(), "JPEG", quality=95)).astype(int) - gradient()).mean() < 6


def test_gray_and_one_bit_become_equal_channels():
    gray = gradient()[..., 0]
    np.testing.assert_array_equal(decoded(encode(gray)), np.stack([gray] * 3, axis=-1))
    black_and_white = Image.fromarray(gray > 100)
    expected = np.where(gray > 100, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(decoded(encode(black_and_white, "TIFF"))[..., 2], expected)


def test_sixteen_bit_gray_keeps_the_high_byte():
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for format in ("PNG", "TIFF"):
        image, note = images.decode(encode(values, format))
        np.testing.assert_array_equal(np.asarray(image)[0, :, 0], [0, 0, 1, 128, 255])
        assert "16-bit" in note


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_few_bits_in_sixteen_are_told(bits, format):
    values = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8)
    image, note = images.decode(encode(values, format))
    assert note.endswith(f"and its largest value is {2**bits - 1} of 65535")
    if bits == 8:
        assert images.dark(image) == "is of one colour, #000000, and shows nothing"
    else:
        assert f"nearly black: its brightest value is {2 ** (bits - 8) - 1} of 255" in images.dark(image)
    assert "largest" not in images.decode(encode((values << (16 - bits)).astype(np.uint16), format))[1]


def test_pictures_that_show_nothing_are_told():
    """Of any kind: 48-bit colour of which 12 bits are used, white on transparent."""
    dim = Image.fromarray((gradient() >> 4).astype(np.uint8))
    assert "nearly black: its brightest value is 13 of 255" in images.dark(dim)
    white = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    white.putpixel((2, 2), (255, 255, 255, 255))
    image, note = images.decode(encode(white))
    assert images.dark(image) == "is of one colour, #ffffff, and shows nothing" and "transparent" in note
    assert images.dark(Image.fromarray(gradient())) == ""
    night = np.zeros((8, 8, 3), np.uint8)
    night[3, 3] = 40
    assert images.dark(Image.fromarray(night)) == ""


def test_heic_is_read_where_pillow_heif_is_installed(monkeypatch):
    """A stand-in for the package, whose files begin as HEIC does and hold a PNG."""
    file = b"\0\0\0\x18ftypheic" + encode(gradient())
    with pytest.raises(images.Unreadable, match="pip install pillow-heif"):
        images.decode(file)

    def opener(opened, name=""):
        image = Image.open(io.BytesIO(opened.read()[12:]))
        image.format = "HEIF"
        return image

    def register():
        Image.register_open("HEIF", opener, lambda start: start[4:12] == b"ftypheic")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    for table in (Image.OPEN, Image.ID):
        monkeypatch.setattr(Image, "OPEN" if table is Image.OPEN else "ID", table.copy())
    images._read_heic.cache_clear()
    try:
        np.testing.assert_array_equal(decoded(file), gradient())
    finally:
        images._read_heic.cache_clear()


def test_sixteen_bit_colour_keeps_the_high_byte():
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    row = b"\0" + struct.pack(">3H", 0x1234, 0x8000, 0xFFFF)
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(decoded(png)[0, 0], [0x12, 0x80, 0xFF])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_without_a_defined_white_are_refused(mode):
    with pytest.raises(images.Unreadable, match="32-bit"):
        images.decode(encode(Image.new(mode, (3, 3), 7), "TIFF"))


def test_cmyk_is_converted():
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    image, note = images.decode(encode(cyan, "TIFF"))
    assert image.getpixel((4, 4)) == (0, 255, 255)
    assert "CMYK" in note
    red, green, blue = images.decode(encode(cyan, "JPEG"))[0].getpixel((4, 4))
    assert red < 20 and green > 235 and blue > 235


def test_transparency_is_laid_on_white():
    rgba = Image.new("RGBA", (4, 1), (200, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    rgba.putpixel((2, 0), (0, 0, 0, 51))  # one fifth black on white: 204
    image, note = images.decode(encode(rgba))
    assert [image.getpixel((x, 0)) for x in range(3)] == [(200, 0, 0), (255, 255, 255), (204, 204, 204)]
    assert "transparent" in note

    gray = Image.new("LA", (2, 1), (10, 255))
    gray.putpixel((1, 0), (10, 0))
    assert decoded(encode(gray))[0].tolist() == [[10, 10, 10], [255, 255, 255]]

    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([1, 2, 3, 4, 5, 6])
    palette.putpixel((1, 0), 1)
    assert decoded(encode(palette))[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert images.decode(encode(palette))[1] == ""
    assert decoded(encode(palette, transparency=0))[0].tolist() == [[255, 255, 255], [4, 5, 6]]
    assert decoded(encode(palette, "GIF", transparency=0))[0].tolist() == [[255, 255, 255], [4, 5, 6]]


def test_an_opaque_alpha_channel_is_no_loss():
    image, note = images.decode(encode(Image.fromarray(gradient()).convert("RGBA")))
    np.testing.assert_array_equal(np.asarray(image), gradient())
    assert note == ""


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_turns_the_pixels_upright(format, orientation):
    # The four quarters of the upright picture, turned by hand into what a camera held so would have stored.
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:], upright[16:, :24] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(format, {})
    turned = decoded(encode(np.ascontiguousarray(stored), format, exif=exif, **options))
    assert turned.shape == upright.shape
    assert np.abs(turned.astype(int) - upright).max() < 40


def test_a_turned_picture_with_transparency_is_known_as_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encode(Image.new("RGBA", (4, 8), (9, 9, 9, 9)), exif=exif)
    image, _ = images.decode(file)
    assert image.size == (8, 4) and images.look(file, image).turned


def test_broken_exif_loses_nothing():
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    assert decoded(encode(gradient(), "JPEG", exif=exif)).shape == (8, 12, 3)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    image, note = images.decode(encode(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert image.getpixel((3, 3)) == (255, 0, 0)
    assert "first" in note


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_truncated_files_are_refused(format):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    whole = encode(noise, format)
    assert decoded(whole).shape == (40, 40, 3)
    for share in (0.5, 0.02):
        with pytest.raises(images.Unreadable) as refusal:
            images.decode(whole[: int(len(whole) * share)])
        assert "\n" not in str(refusal.value)


def test_what_is_no_picture_is_refused(tmp_path):
    cases = {
        "empty.jpg": (b"", "empty"),
        "text.png": (b"no picture at all", "not a picture"),
        "photo.HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        # Pillow would start Ghostscript on this one.
        "drawing.eps": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
            "not a picture",
        ),
        "archive.zip": (b"PK\3\4" + bytes(100), "not a picture"),
        "zeros.png": (bytes(1000), "not a picture"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(images.Unreadable, match=reason):
            images.decode(tmp_path / name)
    with pytest.raises(images.Unreadable, match="empty"):
        images.decode(b"")
    with pytest.raises(images.Unreadable):
        images.decode(tmp_path / "is not there.png")
    with pytest.raises(images.Unreadable):
        images.decode(tmp_path)


def test_random_damage_never_raises_anything_else():
    random = np.random.default_rng(1)
    for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = np.frombuffer(encode(gradient(32, 32), format), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[random.integers(0, len(damaged), 6)] = random.integers(0, 256, 6)
            try:
                image, _ = images.decode(damaged.tobytes())
            except images.Unreadable as error:
                assert str(error) and "\n" not in str(error)
            else:
                assert image.mode == "RGB"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    def never(self):
        raise AssertionError("decoded")

    huge = encode(Image.new("1", (12_000, 12_000)))
    assert len(huge) < 50_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(images.Unreadable, match="12000 x 12000 pixels"):
        images.decode(huge)
    claims = bytearray(encode(Image.new("1", (1, 1))))
    claims[16:24] = struct.pack(">II", 60_000, 60_000)
    claims[29:33] = struct.pack(">I", zlib.crc32(bytes(claims[12:29])))
    with pytest.raises(images.Unreadable, match="pixels"):
        images.decode(bytes(claims))


def test_a_jpeg_of_very_many_scans_is_refused():
    whole = encode(Image.new("L", (8, 8), 7), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    image, _ = images.decode(whole[:-2] + whole[start:-2] * 50 + whole[-2:])
    assert image.size == (8, 8)
    with pytest.raises(images.Unreadable, match="206 scans"):
        images.decode(whole[:-2] + whole[start:-2] * 200 + whole[-2:])
    film = b"\xff\xda\0\2" * 200  # phones append one
    assert images.decode(whole + film)[0].size == (8, 8)


def test_formats_that_take_more_memory_have_fewer_pixels(monkeypatch):
    monkeypatch.setattr(images, "MEMORY", 20_000)
    picture = gradient(30, 40)
    assert decoded(encode(picture, "PNG")).shape == picture.shape
    with pytest.raises(images.Unreadable, match="30 x 40 pixels; at most 1,0"):
        images.decode(encode(picture, "WEBP"))
    monkeypatch.setattr(images, "MAX_FILE", 100)
    with pytest.raises(images.Unreadable, match="at most 100 are read"):
        images.decode(encode(picture, "PNG"))


def test_threads_wait_until_there_is_memory(monkeypatch):
    monkeypatch.setattr(images, "MEMORY", 20_000)
    file, second = encode(gradient(30, 40)), threading.Event()

    def read():
        with images.decoded(file):
            second.set()

    with images.decoded(file) as (first, _):  # 30 * 40 * 12 bytes
        thread = threading.Thread(target=read)
        thread.start()
        assert not second.wait(0.2)
    thread.join(10)
    assert second.is_set()
    with pytest.raises(ValueError):
        first.getpixel((0, 0))  # closed with its block
    with pytest.raises(RuntimeError), images.decoded(file):
        raise RuntimeError("what goes wrong in the block passes, and gives the memory back")
    assert decoded(file).shape == (40, 30, 3)


def test_pictures_of_several_bands_come_back_whole():
    alpha = np.arange(1200, dtype=np.uint16).astype(np.uint8)[:, None].repeat(2000, axis=1)
    rgba = np.dstack([np.zeros((1200, 2000, 3), np.uint8), alpha])
    np.testing.assert_array_equal(decoded(encode(rgba, compress_level=1))[..., 1], 255 - alpha)
    deep = (alpha.astype(np.uint16) << 8) + 77
    image, _ = images.decode(encode(deep, compress_level=1))
    np.testing.assert_array_equal(np.asarray(image)[..., 2], alpha)
    assert images.digest(image) == hashlib.sha256(b"2000 x 1200\n" + image.tobytes()).hexdigest()


def test_resize_keeps_what_it_says():
    # Thirds of a wide picture: red, green, blue.
    wide = np.zeros((20, 60, 3), np.uint8)
    for third in range(3):
        wide[:, third * 20 : third * 20 + 20, third] = 200
    image = Image.fromarray(wide)
    crop, pad, stretch = (square.resize(image, 30, how) for how in square.RESIZES)
    assert crop.shape == pad.shape == stretch.shape == (30, 30, 3)
    assert crop.dtype == np.uint8
    assert (crop == (0, 200, 0)).all()  # only the middle, which is cut out before it is resized
    assert (pad[:9] == 0).all() and (pad[21:] == 0).all()  # the filter reaches over the edge
    assert pad[15, 2].tolist() == [200, 0, 0] and pad[15, 27].tolist() == [0, 0, 200]
    assert stretch[0, 2].tolist() == [200, 0, 0] and stretch[29, 27].tolist() == [0, 0, 200]


@pytest.mark.parametrize("how", square.RESIZES)
def test_resize_leaves_the_right_size_alone(how):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(square.resize(Image.fromarray(pixels), 16, how), pixels)


@pytest.mark.parametrize("how", square.RESIZES)
def test_resize_takes_strips_and_single_pixels(how):
    for size in ((1, 1), (1, 5000), (5000, 1), (17, 16)):
        assert square.resize(Image.new("RGB", size, "white"), 16, how).shape == (16, 16, 3)


def test_crop_of_an_odd_margin_stays_on_the_pixel_grid():
    pixels = np.random.default_rng(0).integers(0, 255, (16, 17, 3), np.uint8)
    np.testing.assert_array_equal(square.resize(Image.fromarray(pixels), 16), pixels[:, :16])


def test_resize_is_antialiased():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = square.resize(Image.fromarray(stripes), 16)
    assert np.abs(shrunk.astype(int) - 127).max() < 12  # picking pixels would give 0 or 255


def test_digest_is_of_the_pixels_and_their_shape():
    picture = Image.fromarray(gradient())
    digest = images.digest(picture)
    for format in ("PNG", "BMP", "TIFF"):
        assert images.digest(images.decode(encode(picture, format))[0]) == digest
    changed = gradient()
    changed[0, 0, 0] += 1
    assert images.digest(Image.fromarray(changed)) != digest
    assert images.digest(Image.new("RGB", (2, 3))) != images.digest(Image.new("RGB", (3, 2)))
