"""How far new texts lie from those a network was trained on, in the space of its own features.

    python -m runner shift RUN FILE_OR_FOLDER

As for pictures (`picture_runs.shift`), in two spaces: what the head reads, which the network decides by, and
the mean of the vectors of a text's tokens, which still tells one subject, or language, from another where the
first has no place for the difference.
"""

import os
from pathlib import Path

import pandas as pd

from runner.data import reference
from runner.errors import InputError
from runner.networks import inference
from runner.runs import decision, folder, shift
from runner.text.load import UNIT
from runner.text_networks import tokens
from runner.text_networks.words import tokenizer
from runner.text_runs import predict
from runner.text_runs import reference as of_texts


def run(run_folder: str | Path, source: str | Path, batch_size: int = 64) -> Path:
    """Compare texts, in a file, a folder or a table, with those of a complete run; return the page.

    Writes shift.html, texts.csv (a row per text, farthest first) and shift.json into RUN/shift/<name>/, or
    beside an earlier one with -2, -3 ... What cannot be read is named on the page and left out.

    Raises:
        InputError: no complete run that tells classes of texts apart, one without reference.npz, no such file
            or folder, or fewer than two texts.
    """
    run_folder, source = (Path(os.path.expanduser(path)) for path in (run_folder, source))
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size} cannot be used; give a whole number of at least 1.")
    folder.read_complete(run_folder)
    if not source.exists():
        raise InputError(f"{source} is not there; give a table with a column text, or a folder of texts.")
    texts = list(predict.texts([source]))
    network, classes, _ = predict.load(run_folder)
    if not isinstance(tokenizer(network), tokens.Tokens):
        raise InputError(
            f"{run_folder}: its network tells no classes of texts apart, whose features are what is "
            "compared; label some of the new data and `evaluate` the run on it."
        )
    known = reference.read(run_folder / "reference.npz")
    reading = of_texts.extractor(network)
    early = [one.shape[-1] for one in reading.output[1:-1]]
    shift.check(run_folder, known, classes, reading.output[0].shape[-1], *early)
    step, point = inference.forward(reading), decision.of_run(run_folder, classes)

    readable = [(name, text) for name, text, _ in texts if text is not None]
    if not readable:
        raise InputError(f"{source}: {len(texts)} files, none of them a text that can be read.")
    compared = shift.to_compare(len(readable))
    early_train, tables, kept = shift.early_training(known), [], []
    for first in range(0, len(readable), batch_size):
        names, said = (list(part) for part in zip(*readable[first : first + batch_size], strict=True))
        seen = of_texts.read_texts(step, said, known.temperature)
        rows = compared[first : first + batch_size]
        kept.append(reference.Seen(*(part[rows] for part in seen)))
        of_rows = {"path": names, "compared": rows}
        tables.append(pd.DataFrame(of_rows | shift.columns(known, early_train, seen, point)))
    found = shift.measure(known, tables, kept, point, UNIT)

    said_of = {name: of_texts.beginning(text) for name, text in readable}
    farthest = [
        row | {"text": said_of[row["path"]], "nearest_text": nearest.decode("utf-8", "replace")}
        for row, nearest in shift.farthest_rows(known, found)
    ]
    name = source.resolve().name
    return shift.write_page(
        shift.place(run_folder, name, found) / "shift.html",
        title=f"Domain shift: {name}",
        source=str(source),
        run_name=str(run_folder),
        found=found,
        layers=["the mean of the vectors of a text's tokens, as the first layer has them"],
        farthest=farthest,
        unreadable=[(name, note) for name, text, note in texts if text is None],
    )
