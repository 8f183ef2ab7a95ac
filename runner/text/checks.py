"""What may be wrong with labelled texts, beside what may be wrong with any example: near copies, nothing in
them, what gives the class away, ends that are cut off.

Each check returns rows (path, kind, message) for `Data.problems`: one line each that says what was found and
what to do; path is "" where the finding is about the whole set. Nothing here reads a file.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd

from runner.data.checks import (
    class_names,
    class_sizes,
    copies,
    near_copies,
    rare_classes,
    telling,
    told_by,
    versions,
)
from runner.data.files import Row
from runner.data.splits import USED

TRUNCATED = 0.05
"""The share of texts, in a split, whose ends may be cut off before it is said."""
UNKNOWN = 0.05
"""The share of unknown words, of all tokens, up to which nothing is said."""
UNSEEN = {"Zs", "Zl", "Zp", "Cc", "Cf"}
"""Unicode's categories of characters that show nothing: spaces, ends of lines, controls, directions."""


def fold(text: str) -> str:
    """The form in which texts are compared: Unicode NFKC, case folded, white space as single spaces within.

    Accents, punctuation and the order of words stay.
    """
    # Folding may take a text out of its form (of "ᾼ", say): once more, as the Unicode standard has it (D146).
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def everything(
    manifest: pd.DataFrame,
    texts: Sequence[str],
    counts: pd.DataFrame,
    pairs: pd.DataFrame,
    clusters: np.ndarray,
    truncated: np.ndarray | None,
    length: int | None = None,
) -> list[Row]:
    """All checks of texts.

    manifest: as of `Data`, with split and sha256; texts: in its order; counts: of `data.checks.count`; pairs,
    clusters: of `near_duplicates.find` and `data.pairs.clusters`, by row of the manifest; truncated: bool
    (texts,), whether a text has more tokens than are read, or None for texts with entities, of which nothing
    is checked that supposes one label each; length: how many that are, for the message.
    """
    labelled = truncated is not None
    sizes = class_sizes if labelled else rare_classes
    return [
        *copies(manifest),
        *near_copies(manifest, pairs, "says"),
        *versions(manifest, clusters, "texts", "say nearly the same as another, as versions of one text do"),
        *blank(manifest, texts),
        *unknown_words(manifest),
        *class_names(counts.sum(axis=1), "texts"),
        *(sizes(counts, "texts") if (manifest["split"] == "train").any() else []),  # else only judged
        *(class_named(manifest, texts) if labelled else []),
        *(lengths(manifest, texts) if labelled else []),
        *(cut_off(manifest, truncated, length) if truncated is not None else []),
    ]


def unknown_words(manifest: pd.DataFrame) -> list[Row]:
    """Say where more than UNKNOWN of the tokens that are used stand for words that the tokenizer does not
    know; kind "unknown".

    manifest: with tokens and unknown, of each text.
    """
    used = manifest[manifest["split"].isin(USED)]
    share = used["unknown"].sum() / max(1, (used["tokens"] - 2).sum())
    if share <= UNKNOWN:
        return []
    most = used.sort_values("unknown", ascending=False).iloc[0]
    message = (
        f"{100 * share:.1f} % of all tokens are words that the tokenizer does not know, most in "
        f"{most['path']!r} ({most['unknown']} of {most['tokens'] - 2}): take weights of this language, of "
        "this script, or of parts of words"
    )
    return [("", "unknown", message)]


def blank(manifest: pd.DataFrame, texts: Sequence[str]) -> list[Row]:
    """Texts of white space and characters that show nothing alone; kind "blank"."""
    there = manifest["split"].isin([*USED, "unused"])
    return [
        (path, "blank", f"{path!r} is empty: take it out, or see what became of its text")
        for path, used, text in zip(manifest["path"], there, texts, strict=True)
        if used and all(unicodedata.category(one) in UNSEEN for one in text)
    ]


# ---------------------------------------------------------------- what gives the class away


def class_named(manifest: pd.DataFrame, texts: Sequence[str]) -> list[Row]:
    """Class names that stand as words in texts of their own class, and hardly in others; kind "give-away".

    A network may learn to look for the name. Looks at all texts but those of test; what counts as by no
    chance is the rule of `data.checks.telling`. The words of a name may be joined as in a file ("not_spam").
    """
    rows = manifest["split"].isin(["train", "val", "unused"]).to_numpy()
    labels = manifest["label"].astype(str)[rows].reset_index(drop=True)
    folded = [fold(text) for text, used in zip(texts, rows, strict=True) if used]
    found = []
    for name in manifest["label"].cat.categories:
        words = re.findall(r"\w+", fold(str(name).replace("_", " ")))
        if not words:
            continue
        pattern = re.compile(r"(?<!\w)" + r"[\W_]+".join(map(re.escape, words)) + r"(?!\w)")
        there = pd.Series(["named" if pattern.search(text) else "" for text in folded], dtype=object)
        for label, value, cell in telling(there, labels):
            if label != name or not value:
                continue
            share, others = 100 * cell.both / cell.of_class, cell.of_value - cell.both or "no"
            message = (
                f"{cell.both} of {cell.of_class} texts of {name!r} ({share:.0f} %), and {others} others, "
                "have the name of the class in them, which gives it away: take it out where it is no part of "
                "the text"
            )
            found.append(("", "give-away", message))
    return found


def lengths(manifest: pd.DataFrame, texts: Sequence[str]) -> list[Row]:
    """Length in characters, words and lines, where it tells the class; kind "give-away".

    Looks at all texts but those of test, by `data.checks.told_by`.
    """
    rows = manifest["split"].isin(["train", "val", "unused"]).to_numpy()
    seen = [text for text, used in zip(texts, rows, strict=True) if used]
    facts = {
        "characters": [len(text) for text in seen],
        "words": [len(text.split()) for text in seen],
        "lines": [len(text.splitlines()) for text in seen],
    }
    numbers = pd.DataFrame(facts)
    numbers = numbers.loc[:, numbers.nunique() > 1]
    if numbers.empty:
        return []
    accuracy, largest = told_by(numbers, manifest["label"].astype(str)[rows])
    if accuracy is None:
        return []
    message = (
        f"length alone ({', '.join(numbers)}) tells the class of {100 * accuracy:.0f} % of the texts (always "
        f"answering the largest class: {100 * largest:.0f} %): collect all classes alike, or cut texts alike"
    )
    return [("", "give-away", message)]


# ---------------------------------------------------------------- ends that are cut off


def cut_off(manifest: pd.DataFrame, truncated: np.ndarray, length: int | None = None) -> list[Row]:
    """Say how many texts of train, val or test have more tokens than are read, where more than TRUNCATED of a
    split have; kind "truncated". truncated, length: as of `everything`.
    """
    shares = {}
    for split in USED:
        of = np.asarray(truncated)[(manifest["split"] == split).to_numpy()]
        if len(of) and of.mean() > TRUNCATED:
            shares[split] = f"{of.sum()} of {len(of)} texts ({100 * of.mean():.0f} %) of {split}"
    if not shares:
        return []
    tokens = "the network takes" if length is None else f"{length}"
    message = (
        f"{', '.join(shares.values())} have more tokens than {tokens}, and what stands behind is not read: "
        "raise the length, or cut the texts where they say what they are"
    )
    return [("", "truncated", message)]
