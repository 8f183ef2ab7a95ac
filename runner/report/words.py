"""Numbers as people read them: shares, intervals, counts and times, with narrow no-break spaces."""

import re
from collections.abc import Sequence


def percent(share: float | None, digits: int = 1) -> str:
    """Return 0.904 as "90.4 %" with a narrow no-break space, and a missing number as a dash."""
    return "–" if share is None or share != share else f"{100 * share:.{digits}f}\u202f%"


def interval(pair: Sequence[float]) -> str:
    """Return (0.883, 0.923) as "88.3 to 92.3 %", with a narrow no-break space."""
    return f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f}\u202f%"


def points(low: float, high: float) -> str:
    """Return (-0.012, 0.034) as "-1.2 to +3.4": the ends of a difference in percentage points."""
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def count(number: int) -> str:
    """Return 12345 as "12 345", with narrow no-break spaces."""
    return f"{number:,}".replace(",", "\u202f")


def amount(number: int) -> str:
    """Return 22568841 as "22.6 million", and what is below a million as `count` does."""
    return count(number) if number < 1_000_000 else f"{number / 1e6:.1f}\u202fmillion"


def times(number: int, one: str, many: str) -> str:
    """Return the number with its noun: times(1, "epoch", "epochs") is "1 epoch"."""
    return f"{number} {one if number == 1 else many}"


def duration(seconds: float) -> str:
    """Return 75.2 as "1 min 15 s": tenths below ten seconds, and no seconds from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours and not minutes:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
    return (f"{hours} h " if hours else "") + f"{minutes} min" + ("" if hours else f" {rest} s")


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, which blank lines part; empty ones are left out."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]
