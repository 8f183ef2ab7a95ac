"""Files and folders as people have them: what counts as data, what a name means, and what a list lacks."""

import codecs
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from runner.errors import InputError

Row = tuple[str, str, str]

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
PICTURE_SUFFIXES = set(".avif .bmp .gif .heic .heif .jfif .jp2 .jpeg .jpg .png .ppm .tif .tiff .webp".split())
_NOT_DATA = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"),  # of file managers
    *("$recycle.bin", "system volume information", "lost+found"),  # of file systems
    *("@eadir", "#recycle", "@recycle", "#snapshot", "@tmp"),  # of network drives
}
"""Names, in lower case, of what is nobody's data; hidden files are left out as well."""
_SPLIT_FILLERS = {"data", "dataset", "folder", "image", "images", "photos", "pictures", "set", "split"}
MAX_XML = 10_000_000
"""Bytes of an XML file: some 40,000 boxes."""


def children(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the regular files in a folder, sorted, without hidden ones and
    what systems keep there for themselves.

    A link that leads nowhere, or to itself, counts as a file: whoever reads it says so by its name.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in _NOT_DATA:
                    continue
                if _is_folder(entry):
                    folders.append(entry.name)
                elif _is_file(entry):
                    files.append(entry.name)
    except OSError as error:
        raise InputError(
            f"Received the folder {str(folder)!r}, which cannot be listed: {error.strerror}."
        ) from None
    return sorted(folders), sorted(files)


def walk(path: Path, inside: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files of a folder and of its folders, those in order of their names, or a file itself; what
    `children` leaves out is left out. A folder that is linked from within itself is entered once.

    inside: the folders around it, resolved.
    """
    if not path.is_dir():
        yield path
        return
    real = path.resolve()
    if real in inside:
        return
    folders, names = children(path)
    yield from (path / name for name in names)
    for name in folders:
        yield from walk(path / name, (*inside, real))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _is_file(entry: os.DirEntry) -> bool:
    """Whether it is a file or a dead link; pipes and sockets, which would block the reader, are neither."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def refuse_dead_folders(folder: Path) -> None:
    """Raise InputError for a link that leads nowhere, where folders stand: a class or a split would be lost.

    A link with the ending of a file is no folder's.
    """
    for name in children(folder)[1]:
        if not re.search(r"\.[A-Za-z]\w{0,4}$", name) and not os.path.exists(folder / name):
            raise InputError(
                f"Received data={str(folder)!r} with {printable(name)!r}, a link that leads nowhere; mend "
                "it, or remove it where it is not needed."
            )


def existing(path: str | Path) -> str:
    """Return the path of a regular file, also where the disk writes its letters in another Unicode form (as
    archives from macOS do: the mark of an é apart); "" where there is none.
    """
    path = os.fspath(path)
    try:
        if os.path.isfile(path):
            return path
        folder, name = os.path.split(path)
        if name.isascii() or not os.path.isdir(folder):
            return ""
    except ValueError:  # NUL, or no name on any system
        return ""
    alike = [one for one in children(Path(folder))[1] if composed(one) == composed(name)]
    return os.path.join(folder, alike[0]) if alike and os.path.isfile(os.path.join(folder, alike[0])) else ""


def composed(name: str) -> str:
    """The Unicode form NFC of a name, by which names are compared."""
    return unicodedata.normalize("NFC", name)


def split_meant(name: str) -> str:
    """The split that a folder's name seems to mean, "" for none: train of "Training Set"."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    known = all(word in SPLIT_WORDS or word in _SPLIT_FILLERS for word in words)
    return found.pop() if len(found) == 1 and known else ""


def singular(unit: str) -> str:
    """The singular of the word for examples: "picture" of "pictures"."""
    return unit.removesuffix("s")


def printable(name: str) -> str:
    """Return a file name that can be written as UTF-8; Linux allows others."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def split_in_name(file: Path, root: Path) -> str:
    """The split that the name of a file says, or of its folder where the name says none."""
    names = [file.stem] + ([file.parent.name] if file.parent != root else [])
    for name in names:
        for word in re.split("[^a-z]+", name.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return ""


# ---------------------------------------------------------------- files that something else lists


def find_listed(name: str, places: Sequence[Path], listing: Path) -> tuple[Path, bool]:
    """Return where a file that `listing` names is, and True; or where it would be, and False.

    places: the folders that it may be in. Names of another system or of a server ("C:\\photos\\a.png",
    "../../upload/a.png") are looked for by what stands behind the last slash. Raises InputError for one
    that is not there and leaves the folders.
    """
    slashes = name.replace("\\", "/")
    foreign = slashes != name or ":" in name or not _stays(places[0], name)
    for one in dict.fromkeys([name, slashes, *([slashes.rsplit("/", 1)[-1]] if foreign else [])]):
        for place in places:
            if _stays(place, one) and (path := existing(os.path.normpath(place / one))):
                return Path(path), True
    if not all(_stays(place, slashes) for place in places):
        raise InputError(
            f"Received data={str(listing)!r} with the picture {name!r}, which leaves its folder; put the "
            "annotations at the top of the pictures."
        )
    return Path(os.path.normpath(places[0] / slashes)), False


def _stays(place: Path, name: str) -> bool:
    return Path(os.path.normpath(place / name)).is_relative_to(os.path.normpath(place))


def lacking(listing: Path, names: Sequence[str], of: int, places: Sequence[Path]) -> list[Row]:
    """A row that counts the pictures that `listing` names and that are not there, `names` of `of`; InputError
    where none is there.
    """
    if not names:
        return []
    looked = ", ".join(dict.fromkeys(str(place) for place in places))
    if len(names) == of:
        raise InputError(
            f"Received data={str(listing)!r} with the picture {names[0]!r}, which is not there, nor is any "
            f"other of its {of}; looked in {looked}."
        )
    message = f"{len(names)} of {of} pictures are not there, such as {names[0]!r}; looked in {looked}"
    return [(listing.name, "missing", message)]


def unlisted(root: Path, listed: Iterable[Path]) -> list[Row]:
    """Rows that count the pictures that no annotation names, in the folders of those that are listed."""
    named, rows = {str(path) for path in listed}, []
    for folder in sorted({Path(name).parent for name in named}):
        names = children(folder)[1] if os.path.isdir(folder) else []
        there = [name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES]
        left = [name for name in there if str(folder / name) not in named]
        if left:
            message = (
                f"{len(left)} of {len(there)} pictures are named by no annotation and left out, such as "
                f"{printable(left[0])!r}: list those that show nothing without boxes, and annotate the others"
            )
            rows.append((printable(str(folder.relative_to(root))), "missing", message))
    return rows


# ---------------------------------------------------------------- files that are read


def text_lines(file: Path) -> list[str]:
    """The lines of a text file that hold something, whatever mark of its encoding it begins with."""
    raw = file.read_bytes()
    utf_16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if utf_16 else "utf-8-sig", "backslashreplace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def parse_xml(file: Path) -> ElementTree.Element:
    """Parse XML of this file alone: a document type, where entities are declared, is refused. Raises
    InputError for that, for more than MAX_XML bytes and for what is no XML.
    """
    where = f"Received data={str(file)!r}"

    def refuse(*_) -> None:
        raise InputError(f"{where} with a document type (<!DOCTYPE>), which is not read; remove it.")

    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        if os.path.getsize(file) > MAX_XML:
            raise InputError(f"{where}, which has more than {MAX_XML:,} bytes; an annotation is smaller.")
        parser.Parse(file.read_bytes(), True)
        return builder.close()
    except (OSError, expat.ExpatError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}, which cannot be read as XML ({reason}); save it anew.") from None
