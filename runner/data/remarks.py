"""What was found wrong with the data, for people: how severe it is, and what the terminal says of it."""

import pandas as pd

SEVERITIES = {
    "serious": ("duplicate", "near-duplicate", "label", "give-away", "missing"),
    "to look at": (
        "unreadable",
        "blank",
        "orientation",
        "box",
        "mask",
        "truncated",
        "unlabelled",
        "seen",
        "entity",
        "unknown",
        "identity",
        "zeros",
        "unseen",
    ),
    "for your information": ("converted", "tiny", "imbalance", "no entity", "constant", "columns"),
}
"""Kinds of problems: what makes the numbers say too much or too little, what may be one, and what is just so.
A kind that none names is to be looked at."""
SAID = 12
"""The most remarks on the whole set that the terminal has."""


def severity(kinds: pd.Series) -> pd.Series:
    """Which of SEVERITIES each kind of problem is of."""
    of = {kind: name for name, named in SEVERITIES.items() for kind in named}
    return kinds.map(of).fillna("to look at").astype(object)


def graded(problems: pd.DataFrame) -> pd.DataFrame:
    """The table as problems.csv has it: with the column "severity"."""
    table = problems.assign(severity=severity(problems["kind"]))
    return table[["path", "severity", *(name for name in problems if name != "path")]]


def in_words(problems: pd.DataFrame, place: str) -> list[str]:
    """What the terminal says of problems: how many of which severity, where they stand, and in a line each
    what was remarked on the whole set.

    problems: columns path, kind, message (and domain, where there are two), as of `examples.Data`. place: of
    problems.csv.
    """
    if problems.empty:
        return ["data: nothing was found wrong with it"]
    of, counted = severity(problems["kind"]), []
    for name in SEVERITIES:
        kinds = problems["kind"][of == name].value_counts()
        if len(kinds):
            named = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            counted.append(f"{kinds.sum()} {name} ({named})")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"data: {count}: {'; '.join(counted)}; read them in {place}"]
    # Before rows are chosen: of none pandas would make as many as `of` has.
    whole = problems.assign(severity=of)[problems["path"].fillna("") == ""]
    whole = whole.loc[whole["severity"].map(list(SEVERITIES).index).sort_values(kind="stable").index]
    for row in whole.head(SAID).to_dict("records"):
        domain = f"{row['domain']}, " if row.get("domain") else ""
        lines.append(f"  {domain}{row['severity']}: {row['message']}")
    return lines + ([f"  and {len(whole) - SAID} more on the whole set"] if len(whole) > SAID else [])
