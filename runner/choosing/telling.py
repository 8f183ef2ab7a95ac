"""What a ranking says: in the terminal, as a table, and as a page."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from runner.choosing import reliability
from runner.choosing.features import Examples
from runner.choosing.scored import OF_ANSWERS, Ranked, Ranking
from runner.data.examples import Data
from runner.report import pages, words

DECIDES = "logme"
"""What the order goes by: of the scores that every source has, the one whose first choice lost least
(reliability.json).
"""
WIDTH = 130
QUICKER = 0.7
"""A source that takes this share of the first one's time is worth a word."""


def level(found: Ranking) -> list[Ranked]:
    """The first source and those that the linear probe cannot tell from it."""
    return [found.rows[0], *(row for row in found.rows[1:] if found.behind[row.candidate.name][1] <= 0)]


def suggestion(rows: Sequence[Ranked], behind: dict[str, tuple[float, float, float]]) -> str:
    """What to try first, in a few sentences."""
    first, short = rows[0], shortened(rows)
    alike = [row for row in rows[1:] if not row.seen and behind[row.candidate.name][1] <= 0]
    share = words.percent(first.scores["probe"][0])
    said = (
        f"Start from {short[first.candidate.name]}: its LogME is the highest, and a linear probe on it gets "
        f"{share} right"
    )
    if not alike:
        return f"{said}, more than on any other, beyond chance."
    said += f". {_listed([short[row.candidate.name] for row in alike])} cannot be told from it by that probe."
    quickest = min([first, *alike], key=lambda row: row.features.milliseconds)
    if quickest.features.milliseconds < QUICKER * first.features.milliseconds:
        said += (
            f" Of these {short[quickest.candidate.name]} is the fastest "
            f"({quickest.features.milliseconds:.1f} ms against {first.features.milliseconds:.1f} ms)."
        )
    if any(row.candidate.weights.lower() == "none" for row in (first, *alike)):
        return f"{said} An untrained network is among them: none of these weights is sure to bring anything."
    some = "both" if len(alike) == 1 else "two or three of them"
    return f"{said} Where it matters, fine-tune {some} and compare."


def shortened(rows: Sequence[Ranked]) -> dict[str, str]:
    """Names of sources as short as they can be told apart: the backbone, where several share one with its
    weights.
    """
    backbones = [row.candidate.backbone for row in rows]
    return {
        row.candidate.name: row.candidate.backbone
        + f" ({row.candidate.place})" * (backbones.count(row.candidate.backbone) > 1)
        for row in rows
    }


def command(found: Ranking, row: Ranked) -> str:
    """How to train from a source."""
    template, size = (
        ("image_classification", "--image-size")
        if found.kind == "pictures"
        else ("text_classification", "--length")
    )
    return (
        f"python -m templates.{template}.train --data {found.data} --backbone {row.candidate.backbone} "
        f"--weights {row.candidate.weights} {size} {found.size}"
    )


def search(found: Ranking, place: Path) -> str:
    """How to search settings from the first sources."""
    template = command(found, found.rows[0]).split()[2].removesuffix(".train")
    return f"python -m runner tune {template} --rank {place} --data {found.data}"


def remarks(rows: Sequence[Ranked], examples: Examples, data: Data, kind: str) -> list[str]:
    told = []
    available = int(data.manifest["split"].isin(["train", "val"]).sum())
    if available > len(examples.ids):
        told.append(
            f"Of {available:,} {data.unit} to train and validate on {len(examples.ids):,} were looked at, "
            "each class in proportion."
        )
    counts = np.bincount(examples.labels, minlength=len(data.classes))
    if (counts == 1).any():
        told.append(
            f"{words.times(int((counts == 1).sum()), 'class has', 'classes have')} one example, which no "
            "probe can answer that was fitted without it."
        )
    for row in rows:
        if row.seen:
            told.append(
                f"{row.candidate.name} was trained or validated on {row.seen} of these {len(examples.ids)} "
                f"{data.unit}: its scores are too high, and it stands last."
            )
        if row.distance == row.distance and not row.seen:
            told.append(
                f"The data that {row.candidate.name} was trained on lies {row.distance:.1f} from yours on a "
                "scale from 0 (cannot be told apart) to 2 (told apart without a mistake), as that network "
                "sees both."
            )
    if kind == "texts":
        told.append(
            "How far scores of sources for texts can be trusted was not measured; below is for pictures."
        )
    if not any(np.isfinite(row.scores["leep"][0]) for row in rows):
        told.append("No source has a classifier of its own, so there is no LEEP and no NCE.")
    return told


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def table(found: Ranking) -> pd.DataFrame:
    """A row per source, best first."""
    rows = []
    for number, row in enumerate(found.rows, 1):
        one: dict[str, Any] = {
            "rank": number,
            "source": row.candidate.name,
            "backbone": row.candidate.backbone,
            "weights": row.candidate.weights,
        }
        for name, (value, low, high) in row.scores.items():
            one |= {name: value, f"{name}_low": low, f"{name}_high": high}
        rows.append(
            one
            | {
                "parameters": row.features.parameters,
                "milliseconds": round(row.features.milliseconds, 3),
                "licence": row.candidate.licence,
                "seen": row.seen,
                "distance": row.distance,
            }
        )
    return pd.DataFrame(rows)


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.2f}"


def show(found: Ranking, known: dict[str, Any]) -> None:
    """Print the table, the suggestion and how far to trust it."""
    console = Console(highlight=False)
    console = Console(highlight=False, width=min(WIDTH, console.width if console.is_terminal else WIDTH))
    title = f"{found.examples:,} {found.kind} of {found.classes} classes, test sealed"
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    unit = "text" if found.kind == "texts" else "picture"
    for name in ("source", "LogME", "linear probe", "neighbours", "H-score", "LEEP", "NCE"):
        shown.add_column(name, overflow="fold", justify="left" if name == "source" else "right")
    for name in ("parameters", f"ms a {unit}"):
        shown.add_column(name, justify="right")
    shown.add_column("licence", overflow="fold")
    for row in found.rows:
        value, low, high = row.scores["probe"]
        shown.add_row(
            row.candidate.name,
            _number(row.scores["logme"][0]),
            f"{100 * value:.1f} ({100 * low:.0f} to {100 * high:.0f})",
            f"{100 * row.scores['neighbours'][0]:.1f}",
            *[_number(row.scores[name][0]) for name in ("h_score", *OF_ANSWERS)],
            f"{row.features.parameters / 1e6:.1f} M",
            f"{row.features.milliseconds:.1f}",
            row.candidate.licence,
        )
    console.print(shown)
    console.print(f"\n{found.suggestion}", markup=False)
    for remark in found.remarks:
        console.print(remark, markup=False)
    console.print(
        f"How far to trust this, over {known['fits']} fine-tunings of pictures ({known['made']['command']}): "
        f"{reliability.in_words(known, DECIDES)}.",
        markup=False,
    )


# ---------------------------------------------------------------- the page


def write_page(path: Path, found: Ranking, known: dict[str, Any]) -> Path:
    """Write the page about a ranking, whole or not at all, and return its path."""
    return pages.write(
        path,
        "rank.html.j2",
        filters={"plain": _number, "points": lambda ends: words.points(-ends[2], -ends[1])},
        title=f"Sources for {Path(found.data).name or found.data}",
        found=found,
        unit=found.kind,
        level=[row.candidate.name for row in level(found)],
        command=command(found, found.rows[0]),
        search=search(found, path.parent),
        measures=reliability.MEASURES,
        names={**reliability.MEASURES, reliability.SIZE: "the larger network"},
        known=known,
        within=100 * reliability.POINTS,
        decides=DECIDES,
        date=datetime.date.today().isoformat(),
    )
