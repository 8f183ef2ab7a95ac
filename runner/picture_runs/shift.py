"""How far new pictures lie from those a network was trained on, in the space of its own features.

    python -m runner shift RUN FOLDER

In two spaces of features (`data.reference`): the last ones, which the network decides by, and those of
its earlier layers, which still hold what the last ones have no place for. In each a classifier is to tell new
pictures from validation pictures, a second two-sample test compares them, and each picture has its distance
to its nearest training pictures. The verdict follows the strongest evidence. The tests compare with
validation, not with training: a network is fitted to its training pictures, and their features lie apart from
those of any fresh picture of the same kind. On digits_in_photos (200 training pictures, 198 validation
pictures, 600 fresh ones) the proxy A-distance of the fresh ones was 0.38 from training and 0.00 from
validation, and p was 0.08 and 0.88.
"""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import reference
from runner.data.reference import Reference, Seen
from runner.errors import InputError
from runner.networks import inference
from runner.picture_runs import predict
from runner.pictures import images, square
from runner.pictures.load import UNIT
from runner.pictures.reference import extractor
from runner.report import sheets
from runner.runs import decision, folder, shift


def run(run_folder: str | Path, images_folder: str | Path, batch_size: int = 64) -> Path:
    """Compare the pictures in a folder, and in its folders, with those of a complete run; return the page.

    Writes shift.html, pictures.csv (a row per picture, farthest first) and shift.json into
    RUN/shift/<name of the folder>/, or beside an earlier one with -2, -3 ... Files that cannot be read are
    named on the page and left out.

    Raises:
        InputError: no complete run, one without reference.npz, no such folder, or fewer than two pictures.
    """
    run_folder, images_folder = (Path(os.path.expanduser(path)) for path in (run_folder, images_folder))
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size} cannot be used; give a whole number of at least 1.")
    config = folder.read_complete(run_folder)
    if not images_folder.is_dir():
        raise InputError(f"{images_folder} is no folder; give one with new pictures, also in folders below.")
    files = list(predict.files([images_folder]))
    known = reference.read(run_folder / "reference.npz")
    model, classes, _ = predict.load(run_folder)
    reading = extractor(model, known.layer, known.early_layers)
    shift.check(run_folder, known, classes, reading.output[0].shape[-1])
    network = inference.forward(reading)
    point = decision.of_run(run_folder, classes)
    tables, seen, unreadable = _read(files, network, known, config, batch_size, point)
    shift.check(run_folder, known, classes, seen[0].features.shape[1], seen[0].early.shape[1])
    found = shift.measure(known, tables, seen, point, UNIT)

    of_path = {row.path: row.file for table in tables for row in table.itertuples()}
    farthest = []
    for row, nearest in shift.farthest_rows(known, found):
        picture, _ = images.decode(files[of_path[row["path"]]])
        shown = square.resize(picture, config["image_size"], config["resize"])
        farthest.append(row | {"uri": sheets.data_uri(shown, 160), "nearest": _webp_uri(nearest)})
    name = images_folder.resolve().name
    return shift.write_page(
        shift.place(run_folder, name, found) / "shift.html",
        title=f"Domain shift: {name}",
        source=str(images_folder),
        run_name=str(run_folder),
        found=found,
        layers=[f"the mean and the deviation of {', '.join(known.early_layers)}"],
        farthest=farthest,
        unreadable=unreadable,
    )


def _read(
    files: Sequence[Path],
    network,
    known: Reference,
    config: dict,
    batch_size: int,
    point: decision.Threshold | None = None,
) -> tuple[list[pd.DataFrame], list[Seen], list[tuple[str, str]]]:
    """Return of each batch the table for `shift.measure` (with a column `file`, the place in `files`) and
    what the network made of the rows to compare, and (path, reason) of what cannot be read.
    """
    compared, start = shift.to_compare(len(files)), 0
    early_train = shift.early_training(known)
    tables: list[pd.DataFrame] = []
    kept: list[Seen] = []
    unreadable: list[tuple[str, str]] = []
    for batch in predict.batches(files, config["image_size"], config["resize"], batch_size):
        readable = np.array(batch.readable)
        rows = start + np.flatnonzero(readable)
        paths, start = np.array(batch.paths, object), start + len(batch.paths)
        unreadable += zip(paths[~readable], np.array(batch.notes, object)[~readable], strict=True)
        if not len(rows):
            continue
        seen = reference.see(network, tf.constant(batch.pictures), known.temperature)
        kept.append(Seen(*(part[compared[rows]] for part in seen)))
        of_rows = {"path": paths[readable], "compared": compared[rows], "file": rows}
        tables.append(pd.DataFrame(of_rows | shift.columns(known, early_train, seen, point)))
    if not tables:
        raise InputError(
            f"{len(files)} files are there, none of them a picture that can be read; give another folder."
        )
    return tables, kept, unreadable


def _webp_uri(file: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(file).decode('ascii')}"
