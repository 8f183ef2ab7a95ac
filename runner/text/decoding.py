"""Bytes become text, every character of it: nothing is replaced, stripped or joined."""

import codecs
import re

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte-order marks and what they say; without one a text is UTF-8."""
LINE_END = re.compile("\r\n|\r|\n")
_NAMES = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


class Unreadable(ValueError):
    """Bytes that are no text; the message says where and what to do, and reads on from the name of a file."""


def decode(raw: bytes) -> str:
    """Return the text that bytes in UTF-8 hold, or in UTF-16 or UTF-32 with a byte-order mark.

    The mark goes; line ends and white space stay as they are. Raises Unreadable for bytes that are none of
    these, and for NUL characters: what has them is no text, or UTF-16 without its mark.
    """
    mark = next((mark for mark in MARKS if raw.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8")
    body = raw[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        before = body[: error.start].decode(encoding, "ignore")
        wrong = " ".join(f"0x{byte:02X}" for byte in body[error.start : error.start + 2])
        if encoding == "utf-8":
            wrong = wrong[:4]
        raise Unreadable(
            f"is no {_NAMES.get(encoding, 'UTF-32')}: {wrong} in line {_line(before)}, at byte "
            f"{len(mark) + error.start}; save it in UTF-8 (for example iconv -f WINDOWS-1252 -t UTF-8)"
        ) from None
    nul = text.find("\0")
    if nul >= 0:
        at = len(mark) + len(text[:nul].encode(encoding))
        raise Unreadable(
            f"has a NUL character in line {_line(text[:nul])}, at byte {at}, as no text has; give text, and "
            "save UTF-16 with its byte-order mark, or as UTF-8"
        )
    return text


def _line(before: str) -> int:
    """The number of the line that begins or goes on behind a text."""
    return len(LINE_END.findall(before)) + 1
