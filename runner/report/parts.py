"""The parts of a page: one that cannot be made becomes a line on it and does not cost the page."""

from collections.abc import Callable, Sequence
from typing import Any


class Parts:
    """Makes the parts of one page, and remembers in `failed` what could not be made, a line each."""

    def __init__(self, failed: Sequence[str] = ()):
        self.failed = list(failed)

    def made(self, name: str, part: Any, default: Any = None) -> Any:
        """`part`, or where it is a function what it gives when called without arguments; `default` and a line
        in `failed` where that raises.

        name: of the part, for the line.
        """
        if not callable(part):
            return part
        try:
            return part()
        except Exception as error:  # whatever a drawing may raise: the rest of the page is worth having
            self.failed.append(in_words(name, error))
            return default

    def all(self, parts: dict[str, Callable[[], Any]]) -> dict[str, Any]:
        """Every part by its name, None for what could not be made."""
        return {name: self.made(name, part) for name, part in parts.items()}


def in_words(name: str, error: BaseException) -> str:
    """One line: what could not be made, and why."""
    reason = " ".join(str(error).split())[:300]
    return f"{name.replace('_', ' ')}: {type(error).__name__}{f' ({reason})' if reason else ''}"
