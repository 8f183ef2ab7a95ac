"""Damaged and hostile picture files: each gives a picture or is named; nothing crashes, hangs or eats memory.

The files are read in a process of their own, so that a crash or a hang is a failed test with the number of
the file. Each file is made from its number alone: `PYTHONPATH=. python tests/test_fuzz.py 4711` reads number
4711 again and says what came of it.
"""

import collections
import faulthandler
import io
import json
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from runner.pictures import images, square

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 37, 23
SECONDS = 5.0  # for one file, on a busy machine; most take a thousandth of that
MEMORY = 1_000_000_000  # bytes that the process may ever have held, Python and NumPy included


# ---------------------------------------------------------------- whole files


def corpus() -> dict[str, bytes]:
    """A small whole file of every kind that `images.decode` reads, by name."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([columns * 6, rows * 11, (rows * columns) % 256], axis=-1).astype(np.uint8)
    rgb = Image.fromarray(pixels)
    gray, palette = rgb.convert("L"), rgb.quantize(32)
    rgba = rgb.copy()
    rgba.putalpha(gray)
    sixteen = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    frames = {"save_all": True}
    files = {
        "jpeg": (rgb, "JPEG", {"exif": exif, "icc_profile": bytes(200), "comment": "words"}),
        "jpeg progressive": (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        "jpeg restart": (rgb, "JPEG", {"restart_marker_blocks": 1, "optimize": True}),
        "jpeg gray": (gray, "JPEG", {}),
        "jpeg cmyk": (rgb.convert("CMYK"), "JPEG", {"progressive": True}),
        "jpeg several": (rgb, "MPO", frames),
        "png": (rgb, "PNG", {"exif": exif, "icc_profile": bytes(200), "dpi": (72, 72)}),
        "png 1": (gray.convert("1"), "PNG", {}),
        "png gray": (gray, "PNG", {"transparency": 7}),
        "png 16": (sixteen, "PNG", {}),
        "png palette": (palette, "PNG", {"transparency": b"\0\x80\xff"}),
        "png alpha": (rgba, "PNG", {}),
        "png animated": (rgb, "PNG", frames),
        "gif": (palette, "GIF", {"transparency": 3, "comment": b"words"}),
        "gif animated": (palette, "GIF", frames | {"duration": 50, "loop": 0}),
        "bmp": (rgb, "BMP", {}),
        "bmp palette": (palette, "BMP", {}),
        "bmp alpha": (rgba, "BMP", {}),
        "ppm": (rgb, "PPM", {}),
        "pgm 16": (sixteen, "PPM", {}),
        "pbm": (gray.convert("1"), "PPM", {}),
        "tiff": (rgb, "TIFF", {"exif": exif}),
        "tiff 16": (sixteen, "TIFF", {}),
        "tiff alpha": (rgba, "TIFF", {"compression": "tiff_lzw"}),
        "tiff deflate": (rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff packbits": (palette, "TIFF", {"compression": "packbits"}),
        "tiff fax": (gray.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "tiff cmyk": (rgb.convert("CMYK"), "TIFF", {"compression": "tiff_lzw"}),
        "tiff several": (rgb, "TIFF", frames),
        "tiff big": (rgb, "TIFF", {"big_tiff": True}),
        "webp": (rgb, "WEBP", {"exif": exif, "icc_profile": bytes(200)}),
        "webp lossless": (rgba, "WEBP", {"lossless": True}),
        "webp animated": (rgb, "WEBP", frames),
        "jpeg 2000": (rgb, "JPEG2000", {}),
        "jpeg 2000 bare": (rgba, "JPEG2000", {"no_jp2": True, "tile_size": (16, 16)}),
        "avif": (rgb, "AVIF", {"speed": 10, "exif": exif}),
        "avif alpha": (rgba, "AVIF", {"speed": 10}),
        "avif animated": (rgb, "AVIF", frames | {"speed": 10}),
    }
    lacking = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}
    made = {}
    for name, (image, form, options) in files.items():
        if form not in lacking or features.check(lacking[form]):
            if "save_all" in options:
                options = options | {"append_images": [image.rotate(90), image.rotate(180)]}
            file = io.BytesIO()
            image.copy().save(file, form, **options)  # a copy, since a save leaves traces on the image
            made[name] = file.getvalue()
    made["png interlaced"] = _png(_header(4, 4, 8, 0, interlaced=1), (b"IDAT", zlib.compress(bytes(27))))
    made["ppm text"] = b"P3\n2 2\n255\n" + b"255 0 9 " * 4
    return made


def _chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    return struct.pack(">I", length) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _header(width: int, height: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def _png(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


# ---------------------------------------------------------------- damaged files

INTERESTING = (0, 1, 2, 127, 128, 255, 256, 4096, 20_000, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(number: int, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """Return what was done, and the file: one kind of damage or two, decided by the number."""
    random = np.random.default_rng(number)
    names = list(whole)
    name = names[number % len(names)]
    data, done = bytearray(whole[name]), [name]
    for _ in range(random.choice([1, 1, 1, 2])):
        damage = DAMAGES[random.integers(len(DAMAGES))]
        data = damage(data, random, whole[names[random.integers(len(names))]])
        done.append(damage.__name__.strip("_"))
    if name.startswith("png") and random.random() < 0.5:  # its checksums would hide the damage
        data = _with_checksums(data)
        done.append("checksums")
    return ", ".join(done), bytes(data)


def _bits(data, random, other):
    for place in random.integers(0, len(data), random.integers(1, 9)) if data else ():
        data[place] ^= 1 << int(random.integers(8))
    return data


def _bytes(data, random, other):
    for place in random.integers(0, len(data), random.integers(1, 11)) if data else ():
        data[place] = random.integers(256)
    return data


def _run(data, random, other):
    start, length = random.integers(len(data) + 1), random.integers(1, 65)
    length = len(data[start : start + length])
    data[start : start + length] = bytes([random.choice([0, 255, random.integers(256)])]) * length
    return data


def _truncation(data, random, other):
    return data[: random.integers(len(data) + 1)]


def _splice(data, random, other):
    return data[: random.integers(len(data) + 1)] + other[random.integers(len(other)) :]


def _moved(data, random, other):
    """Repeat, or take out, a part."""
    start, end = sorted(random.integers(0, len(data) + 1, 2))
    place = random.integers(len(data) + 1)
    if random.random() < 0.5:
        return data[:place] + data[start:end] + data[place:]
    return data[:start] + data[end:]


def _length(data, random, other):
    """Write a whole number of two or four bytes anywhere, as fields of lengths and offsets have it."""
    form = [">H", "<H", ">I", "<I"][random.integers(4)]
    value = INTERESTING[random.integers(len(INTERESTING))] % (1 << 8 * struct.calcsize(form))
    place = random.integers(max(1, min(len(data), 200) - 4))
    data[place : place + struct.calcsize(form)] = struct.pack(form, value)
    return data


def _dimension(data, random, other):
    """Claim another width or height wherever the file seems to say it."""
    forms = [form for form in (">I", "<I", ">H", "<H") for _ in range(2)]
    for form, side in zip(forms, (WIDTH, HEIGHT) * 4, strict=True):
        place = data.find(struct.pack(form, side))
        if place >= 0:
            value = INTERESTING[random.integers(len(INTERESTING))] % (1 << 8 * struct.calcsize(form))
            data[place : place + struct.calcsize(form)] = struct.pack(form, value)
            if random.random() < 0.5:
                break
    return data


DAMAGES = (_bits, _bytes, _run, _truncation, _splice, _moved, _length, _dimension, _dimension)


def _with_checksums(data: bytearray) -> bytearray:
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return data


# ---------------------------------------------------------------- bombs


def bombs() -> dict[str, bytes]:
    """Small files that claim or unpack to gigabytes, or keep a reader busy, by name."""
    gigabyte = _zeros(2**30)
    row = zlib.compress(bytes(4))  # of a picture 1 x 1
    one = Image.new("RGB", (1, 1))
    flat = Image.new("L", (2000, 2000), 7)

    def saved(image, form, **options) -> bytes:
        file = io.BytesIO()
        image.save(file, form, **options)
        return file.getvalue()

    def tiff(*entries, **header) -> bytes:
        """One directory with (tag, type, count, value) entries."""
        directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
        following = header.get("following", 0)
        return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", following)

    def strips(width, height, count, where, size, compression=1):
        return [
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 1, 8),
            (259, 3, 1, compression),
            (262, 3, 1, 1),
            (273, 4, count, where),
            (277, 3, 1, 1),
            (278, 4, 1, height),
            (279, 4, count, size),
        ]

    scans = saved(flat, "JPEG", progressive=True)
    scan = scans[scans.rindex(b"\xff\xc4", 0, scans.rindex(b"\xff\xda")) : -2]
    frames = [Image.new("L", (8, 8), i % 256) for i in range(3000)]
    bmp = saved(Image.new("P", (16, 16)), "BMP")
    made = {
        "png that claims 50,000 x 50,000": _png(_header(50_000, 50_000), (b"IDAT", row)),
        "png that claims 2,147,483,647 x 1": _png(_header(2**31 - 1, 1), (b"IDAT", row)),
        "png of all pixels allowed and no data": _png(_header(8_000, 8_700), (b"IDAT", row)),
        "png 1 x 1 with a gigabyte of rows": _png(_header(1, 1), (b"IDAT", gigabyte)),
        "png with a gigabyte of rows too few": _png(_header(29_000, 2_400), (b"IDAT", gigabyte)),
        "png text": _png(_header(1, 1), (b"zTXt", b"a\0\0" + gigabyte), (b"IDAT", row)),
        "png international text": _png(_header(1, 1), (b"iTXt", b"a\0\1\0\0\0" + gigabyte), (b"IDAT", row)),
        "png profile": _png(_header(1, 1), (b"iCCP", b"a\0\0" + gigabyte), (b"IDAT", row)),
        "png of a thousand texts": _png(
            _header(1, 1), *[(b"zTXt", b"a%d\0\0" % i + _zeros(2**20)) for i in range(1000)], (b"IDAT", row)
        ),
        "png chunk of four gigabytes": _png(_header(1, 1))[:33] + _chunk(b"tEXt", b"a\0", 2**32 - 1),
        "png animated": saved(frames[0], "PNG", save_all=True, append_images=frames[1:600]),
        "gif of 3,000 frames": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "gif screen": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + saved(one, "GIF")[13:],
        "jpeg of 5,000 scans": scans[:-2] + scan * 5000 + b"\xff\xd9",
        "jpeg that claims 65,500 x 65,500": _claiming_jpeg(65_500, 65_500, saved(one, "JPEG")),
        "jpeg of all pixels allowed and no data": _claiming_jpeg(8_000, 8_700, saved(one, "JPEG")),
        "bmp that claims 2,147,483,647 x 2": bmp[:18] + struct.pack("<ii", 2**31 - 1, 2) + bmp[26:],
        "bmp of runs": bmp[:18] + struct.pack("<iiHHI", 8_000, 8_700, 1, 8, 1) + bmp[34:] + b"\0\0" * 100_000,
        "ppm that claims a lot": b"P6 60000 60000 255 ",
        "ppm text": b"P3 5000 5000 255 " + b"1 " * 500_000,
        "ppm header without an end": b"P6 " + b"1" * 1_000_000,
        "tiff that claims a lot": tiff(*strips(2**31, 2**31, 1, 8, 8)),
        "tiff with four thousand million strips": tiff(*strips(9, 9, 2**32 - 1, 8, 8)),
        "tiff strip of four gigabytes": tiff(*strips(8_000, 8_700, 1, 8, 2**32 - 1)),
        "tiff deflated": tiff(*strips(8_000, 8_700, 1, 122, len(gigabyte), 8)) + gigabyte,
        "tiff that goes in a circle": tiff(*strips(9, 9, 1, 8, 81), following=8),
        "tiff of 65,535 entries": b"II*\0\x08\0\0\0\xff\xff" + b"\1\1\1\0\xff\xff\xff\xff" * 100_000,
    }
    if features.check("webp"):
        webp = bytearray(saved(Image.new("RGBA", (9, 9)), "WEBP", lossless=True, exif=bytes(40)))
        webp[24:30] = b"\xff\x3f\0\xff\x3f\0"  # VP8X: 16384 x 16384
        made["webp that claims a lot"] = bytes(webp)
    if features.check("jpg_2000"):
        bare = bytearray(saved(flat, "JPEG2000", no_jp2=True))
        made["jpeg 2000 that claims a lot"] = bytes(bare[:8] + struct.pack(">II", 60_000, 60_000) + bare[16:])
        boxed = bytearray(saved(flat, "JPEG2000"))
        place = boxed.index(b"ihdr") + 4
        boxed[place : place + 8] = struct.pack(">II", 16, 16)
        made["jpeg 2000 with two sizes"] = bytes(boxed)
    return made


def _zeros(size: int) -> bytes:
    """Zeros, packed by zlib, without packing them all: one part with a clean start, so often as needed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + part * (size // 2**20) + b"\x03\0"


def _claiming_jpeg(width: int, height: int, data: bytes) -> bytes:
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


# ---------------------------------------------------------------- the process that reads them


def read(data: bytes) -> str:
    """Read one file as `data.load` does; return "picture" or "refused: ...", or raise what is wrong."""
    try:
        with images.decoded(data) as (picture, note):
            with Image.open(io.BytesIO(data)) as claimed:
                sides = sorted(claimed.size)
            assert picture.mode == "RGB" and sorted(picture.size) == sides, (picture, sides)
            assert square.resize(picture, 16).shape == (16, 16, 3) and len(images.digest(picture)) == 64
            assert images.look(data, picture).width == picture.width
            assert len(picture.getpixel((picture.width - 1, picture.height - 1))) == 3 and "\n" not in note
        return "picture"
    except images.Unreadable as error:
        assert str(error) and "\n" not in str(error), repr(str(error))
        return f"refused: {error}"


def read_all(files) -> None:
    """Read (name, bytes) one after another; write a line at the start of each and the findings at the end."""
    warnings.simplefilter("ignore")
    outcomes, wrong, slowest = collections.Counter(), [], (0.0, "")
    for name, data in files:
        print(name, flush=True)  # the last such line names the file that ended the process
        faulthandler.dump_traceback_later(4 * SECONDS, exit=True)
        start = time.perf_counter()
        try:
            outcomes[read(data).split(":")[0]] += 1
        except Exception as error:
            wrong.append((name, repr(error)))
        slowest = max(slowest, (time.perf_counter() - start, name))
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"outcomes": outcomes, "wrong": wrong, "slowest": slowest, "peak": peak()}))


def peak() -> int:
    """Return the most bytes of memory that this process has held; 0 where the system does not say it so."""
    # getrusage would also count what the parent held when it started this process.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def in_a_process(*arguments: str) -> dict:
    """Run this file with the arguments and return its findings."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"ended with {done.returncode} at {lines[-1:]}: {done.stderr[-2000:]}"
    return json.loads(lines[-1])


def check(found: dict) -> None:
    print(found)
    assert not found["wrong"]
    assert found["slowest"][0] < SECONDS, found["slowest"]
    assert found["peak"] < MEMORY, found["peak"]


# ---------------------------------------------------------------- tests


def test_the_whole_files_are_read():
    for name, data in corpus().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert read(data) == "picture", name


def test_three_hundred_damaged_files():
    found = in_a_process("0", "300")
    check(found)
    assert min(found["outcomes"]["picture"], found["outcomes"]["refused"]) > 30, "the damage is of one kind"


@pytest.mark.slow
def test_ten_thousand_damaged_files():
    found = in_a_process("1000", "10000")
    check(found)
    assert sum(found["outcomes"].values()) == 10_000


def test_bombs_are_named_or_read_within_their_bounds():
    check(in_a_process("bombs"))


LARGEST = {  # as large as allowed, and in the form that takes most memory
    "jpeg": (8360, "CMYK", "JPEG", {"progressive": True}),
    "png": (8360, "RGBA", "PNG", {"compress_level": 1}),
    "png 16": (8360, "I;16", "PNG", {"compress_level": 1}),
    "gif": (8360, "P", "GIF", {"transparency": 0}),
    "tiff": (8360, "RGBA", "TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 8360}}),
    "webp": (6800, "RGBA", "WEBP", {"lossless": True, "method": 0, "quality": 0}),
    "jpeg 2000": (5700, "RGBA", "JPEG2000", {}),
    "avif": (7200, "RGBA", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_pictures_stay_within_the_memory(name, tmp_path):
    side, mode, form, options = LARGEST[name]
    image = Image.radial_gradient("L").resize((side, side))
    if mode == "RGBA":
        image = image.convert("RGB")
        image.putalpha(Image.linear_gradient("L").resize((side, side)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned once more, where the format has it
    image.convert(mode).save(tmp_path / "largest", form, exif=exif, **options)
    for threads in (1, 3):
        found = in_a_process("threads", str(threads), str(tmp_path / "largest"))
        print(found)
        assert found["sizes"] == [[side, side]] * threads
        assert found["peak"] < MEMORY


def read_in_threads(threads: int, path: str) -> None:
    """Read one file in so many threads at once, as `data.load` does."""
    warnings.simplefilter("ignore")

    def one(_) -> tuple[int, int]:
        with images.decoded(path) as (picture, _):
            square.resize(picture, 224)
            images.digest(picture)
            return picture.size

    with ThreadPoolExecutor(threads) as pool:
        sizes = list(pool.map(one, range(threads)))
    print(json.dumps({"sizes": sizes, "peak": peak()}))


def main(arguments: list[str]) -> None:
    if arguments == ["bombs"]:
        read_all(bombs().items())
    elif arguments[0] == "threads":
        read_in_threads(int(arguments[1]), arguments[2])
    elif len(arguments) == 2:
        first, count = map(int, arguments)
        whole = corpus()
        made = ((number, damaged(number, whole)) for number in range(first, first + count))
        read_all((f"{number}: {what}", data) for number, (what, data) in made)
    else:
        what, data = damaged(int(arguments[0]), corpus())
        print(what, read(data), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
