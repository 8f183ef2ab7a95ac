"""Rank the sources that are at hand for a set of pictures or texts, before any of them is trained.

    python -m runner rank DATA --sources MobileNetV2-0.35=FILE letters_in_photos runs/mine none

Each source's frozen features are computed once and kept; scores, a linear probe and nearest neighbours are
computed from them (`transferability`, `probes`). Only training and validation examples are looked at:
the test stays sealed for the network that is trained in the end. How far such a ranking can be trusted was
measured (`reliability`), and is told with it.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runner import atomic
from runner.choosing import candidates, distances, features, reliability, scored, telling
from runner.choosing.features import Examples
from runner.choosing.scored import Ranking
from runner.data.examples import Data
from runner.data.source import amount
from runner.errors import InputError
from runner.runs import folder
from runner.scores import intervals


def run(
    data: str,
    sources: Sequence[str] = (),
    output: str | Path | None = None,
    *,
    image_size: int = 96,
    length: int = 128,
    labels_per_class: int | str = "auto",
    resize: str = "crop",
    seed: int = 0,
) -> Path:
    """Rank sources for labelled pictures or texts, print the table, and return the page.

    data: as `pictures.load` or `text.load` takes it. sources: as `candidates.of_pictures` or `of_texts` takes
    them. output: a folder that is not there yet; None makes runs/rank/<name of the data>. image_size: pixels
    a side, of pictures; length: tokens, of texts. labels_per_class: a number, "all", or "auto" as the
    templates mean it. Writes rank.html, rank.csv and rank.json.
    Raises InputError for what a person can put right; nothing is written then.
    """
    place = _place(data, output)
    found = ranking(
        data,
        sources,
        image_size=image_size,
        length=length,
        labels_per_class=labels_per_class,
        resize=resize,
        seed=seed,
    )
    known = reliability.read()
    place = folder.make_unused(place) if output is None else folder.make(place, "--output")
    shown = telling.table(found)
    atomic.write_csv(place / "rank.csv", shown)
    atomic.write_json(
        place / "rank.json",
        {
            "data": data,
            "examples": found.examples,
            "classes": found.classes,
            "size": found.size,
            "suggestion": found.suggestion,
            "remarks": found.remarks,
            "sources": json.loads(shown.to_json(orient="records")),
            "reliability": known,
        },
    )
    page = telling.write_page(place / "rank.html", found, known)
    telling.show(found, known)
    return page


def ranking(
    data: str,
    sources: Sequence[str] = (),
    *,
    image_size: int = 96,
    length: int = 128,
    labels_per_class: int | str = "auto",
    resize: str = "crop",
    seed: int = 0,
) -> Ranking:
    """What `run` prints and writes. The arguments, and what is raised, are those of `run`."""
    few = amount(labels_per_class, data)
    kind = kind_of(data)
    if kind == "pictures":
        from runner.choosing import pictures
        from runner.pictures.load import load as load_pictures

        chosen = candidates.of_pictures(sources)
        loaded: Data = load_pictures(data, image_size, seed=seed, labels_per_class=few, resize=resize)
        examples = _usable(features.chosen(loaded, seed=seed), data)
        found, apart = [], []
        for one in chosen:
            content = pictures.content(one, image_size)
            build = functools.partial(pictures.network, one, image_size)
            found.append(features.of(one.name, examples, content, build))
            own = functools.partial(pictures.of_run, image_size=image_size)
            apart.append(distances.of_run(one, found[-1], own, content, build))
    else:
        from runner.choosing import texts
        from runner.text.load import load as load_texts
        from runner.text_networks import text_weights, tokens

        chosen, by_vocabulary = candidates.of_texts(sources), {}
        found, apart = [], []
        for one in chosen:
            # The splits are the same for all; the token ids are those of each source's own vocabulary.
            tokenizer = text_weights.tokenizer(one.weights)
            vocabulary = tokens.digest(tokenizer)
            if vocabulary not in by_vocabulary:
                by_vocabulary[vocabulary] = load_texts(
                    data, tokenizer, length, seed=seed, labels_per_class=few
                )
            loaded = by_vocabulary[vocabulary]
            examples = _usable(features.chosen(loaded, seed=seed), data)
            content = texts.content(one)
            build = functools.partial(texts.network, one, loaded)
            found.append(features.of(one.name, examples, content, build))
            own = functools.partial(texts.of_run, tokenizer=tokenizer, length=length)
            apart.append(distances.of_run(one, found[-1], own, content, build))
    whole = intervals.units(loaded.manifest["group"], examples.ids)
    rows = [
        scored.scored(one, of, examples.labels, whole, scored.seen_by(one, loaded, examples), distance)
        for one, of, distance in zip(chosen, found, apart, strict=True)
    ]
    # What was trained on these very examples is above all others, and says nothing of new ones.
    rows.sort(
        key=lambda row: (not row.seen, row.scores[telling.DECIDES][0], row.scores["probe"][0]), reverse=True
    )
    behind = scored.behind(rows, whole)
    return Ranking(
        data,
        kind,
        rows,
        behind,
        len(loaded.classes),
        len(examples.ids),
        image_size if kind == "pictures" else length,
        telling.suggestion(rows, behind),
        telling.remarks(rows, examples, loaded, kind),
    )


def kind_of(data: str) -> str:
    """Whether labelled data is "pictures" or "texts"; raises InputError where it is neither."""
    from runner.pictures import sources as of_pictures

    try:
        of_pictures.find(data)
        return "pictures"
    except InputError as error:
        from runner.text import sources as of_texts

        try:
            of_texts.find(data)
        except InputError:
            raise error from None
        return "texts"


def _usable(examples: Examples, data: str) -> Examples:
    classes, counts = np.unique(examples.labels, return_counts=True)
    if len(classes) < 2 or counts.max() < 2:
        raise InputError(
            f"Received data={data!r} with {len(examples.ids)} examples of {len(classes)} classes to train "
            "and validate on; a ranking needs two classes, and two examples of one of them: label more."
        )
    return examples


def _place(data: str, output: str | Path | None) -> Path:
    if output is None:
        return Path("runs") / "rank" / (Path(os.path.expanduser(data)).name or "data").replace(":", "_")
    place = atomic.place(output, "--output")
    if place.exists():
        raise InputError(f"--output {place} exists; give another name, or move it away.")
    return place
