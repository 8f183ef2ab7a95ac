"""What `tune` and `seeds` are told on the command line, beside the flags of a template."""

import argparse
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runner.errors import InputError

RANKED = 3
"""Sources of a ranking that a search tries; the first is the best about as often as not."""
TRIALS = 20
"""Of a search that says neither how many nor how long."""


@dataclass(frozen=True)
class Options:
    """Of `tune`."""

    search: str = "bayes"
    trials: int | None = None
    """In all, with those of before; None: TRIALS, or a whole grid, or as many as the minutes allow."""
    minutes: float | None = None
    """After so many no trial begins."""
    workers: int = 1
    study: str = ""
    storage: str = ""
    space: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    rank: str = ""
    """The folder of a ranking, of whose first RANKED sources one is tried in each trial."""
    grid_points: int = 3
    prune: bool = True
    join: bool = False

    def __post_init__(self) -> None:
        for name, fine, rule in (
            ("trials", self.trials is None or self.trials >= 1, "at least 1"),
            ("minutes", self.minutes is None or 0 < self.minutes < math.inf, "a number above 0"),
            ("workers", 1 <= self.workers <= 256, "1 to 256"),
            ("grid_points", 1 <= self.grid_points <= 100, "1 to 100"),
            ("study", self.study == "" or Path(self.study).name == self.study, "a name, and no path"),
        ):
            if not fine:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} {getattr(self, name)} cannot be used; give {rule}.")

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> "Options":
        """What `add_tune` parsed; InputError for what cannot be used."""
        values: dict[str, Any] = {field.name: getattr(parsed, field.name) for field in fields(cls)}
        values |= {name: tuple(one) for name, one in values.items() if isinstance(one, list)}
        return cls(**values)


def _add_template(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "template",
        metavar="TEMPLATE",
        help="such as templates.image_classification; first, and its own flags last",
    )


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m runner tune`."""
    _add_template(parser)
    parser.add_argument("--search", default="bayes", help="grid, random or bayes (TPE); default: %(default)s")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--trials", type=int, metavar="N", help="in all (default: 20, or the whole grid)")
    length.add_argument("--minutes", type=float, metavar="M", help="begin no trial after so many")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="K", help="processes at once (default: %(default)s)"
    )
    parser.add_argument(
        "--study",
        default="",
        metavar="NAME",
        help="folder in runs/TEMPLATE-tuning/",
    )
    parser.add_argument(
        "--storage", default="", metavar="URL", help="a database server (default: study.db in the folder)"
    )
    parser.add_argument(
        "--space",
        nargs="+",
        default=[],
        metavar="RANGE",
        help="ranges beside or in the place of the template's: dropout=0..0.5 batch_size=16,32 "
        "stages.0.learning_rate=1e-4..1e-1:log",
    )
    parser.add_argument(
        "--fix", nargs="+", default=[], metavar="FIELD", help="leave ranges of the template out"
    )
    parser.add_argument(
        "--rank",
        default="",
        metavar="FOLDER",
        help="also search among the first sources of a ranking, such as runs/rank/flowers (`rank`)",
    )
    parser.add_argument(
        "--grid-points", type=int, default=3, metavar="N", help="values of each range (default: %(default)s)"
    )
    parser.add_argument(
        "--no-prune", dest="prune", action="store_false", help="let every trial come to its end"
    )
    parser.add_argument(
        "--join", action="store_true", help="work on the study, and leave the test to who began it"
    )


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m runner seeds`."""
    _add_template(parser)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--name", default="", metavar="NAME", help="folder in runs/TEMPLATE-seeds/ (default: of the settings)"
    )
