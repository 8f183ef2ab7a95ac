"""How far new pictures lie from those a network was trained on, in the space of its own features.

    python -m runner shift RUN FOLDER

In two spaces of features (`pictures.reference`): the last ones, which the network decides by, and those of
its earlier layers, which still hold what the last ones have no place for. In each a classifier is to tell new
pictures from validation pictures, a second two-sample test compares them, and each picture has its distance
to its nearest training pictures. The verdict follows the strongest evidence. The tests compare with
validation, not with training: a network is fitted to its training pictures, and their features lie apart from
those of any fresh picture of the same kind. On digits_in_photos (200 training pictures, 198 validation
pictures, 600 fresh ones) the proxy A-distance of the fresh ones was 0.38 from training and 0.00 from
validation, and p was 0.08 and 0.88.
"""

import base64
import dataclasses
import datetime
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from runner import atomic
from runner.errors import InputError
from runner.networks import inference
from runner.picture_runs import predict
from runner.picture_runs.evidence import FEW, SAMPLE, Shift, measure, nearest, record, standardised, verdict
from runner.pictures import images, reference, square
from runner.pictures.reference import Reference, extractor, read_pictures
from runner.report import pages, sheets, words
from runner.runs import decision, folder

FARTHEST, CLASSES, UNREADABLE = 24, 20, 10
"""The most pictures, classes and unreadable files that the page shows."""


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
    if len(known.features["val"]) < 2:
        raise InputError(
            f"{run_folder}: this run has one validation picture; two are needed to compare with."
        )
    model, classes, _ = predict.load(run_folder)
    reading = extractor(model, known.layer, known.early_layers)
    if reading.output[0].shape[-1] != known.features["val"].shape[1] or known.classes != tuple(classes):
        raise InputError(
            f"{run_folder}: reference.npz has {known.features['val'].shape[1]} features and the classes "
            f"{', '.join(known.classes[:5])}, model.keras {reading.output[0].shape[-1]} and "
            f"{', '.join(classes[:5])}; they are not of one run."
        )
    network = inference.forward(reading)
    point = decision.of_run(run_folder, classes)
    table, features, early, unreadable = _read(files, network, known, config, batch_size, point)
    if known.early and early.shape[1] != known.early["val"].shape[1]:
        raise InputError(
            f"{run_folder}: reference.npz has {known.early['val'].shape[1]} features of earlier layers, "
            f"model.keras {early.shape[1]}; they are not of one run."
        )
    # What the page calls a prediction is what `predict` would say.
    answers = {
        split: decision.moved(known.predictions[split], known.confidences[split], classes, point)
        for split in known.predictions
    }
    known = dataclasses.replace(known, predictions=answers)
    result = measure(known, features, table, early=early if known.early else None)

    shown = {}
    for row in table.nlargest(FARTHEST, "distance").itertuples():
        picture, _ = images.decode(files[row.file])
        shown[row.path] = square.resize(picture, config["image_size"], config["resize"])
    place = folder.make_unused(run_folder / "shift" / images_folder.resolve().name)
    atomic.write_csv(place / "pictures.csv", result.pictures)
    atomic.write_json(place / "shift.json", record(result))
    return write_page(
        place / "shift.html",
        title=f"Domain shift: {images_folder.resolve().name}",
        source=str(images_folder),
        run_name=str(run_folder),
        found=result,
        reference=known,
        shown=shown,
        unreadable=unreadable,
    )


def _read(
    files: Sequence[Path],
    network,
    reference: Reference,
    config: dict,
    batch_size: int,
    point: decision.Threshold | None = None,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """Return the table for `measure` (with a column `file`, the place in `files`), the last and the earlier
    features of the rows to compare, and (path, reason) of what cannot be read.
    """
    before = reference.early.get("train")
    known = None if before is None else standardised(reference.early, before)["train"]
    # All features of a large folder would not fit in memory: which rows are compared is chosen beforehand.
    compared = np.zeros(len(files), bool)
    compared[np.random.default_rng(0).permutation(len(files))[:SAMPLE]] = True
    names, start = np.array(reference.classes), 0
    tables, features, early, unreadable = [], [], [], []
    for batch in predict.batches(files, config["image_size"], config["resize"], batch_size):
        readable = np.array(batch.readable)
        rows = start + np.flatnonzero(readable)
        paths, start = np.array(batch.paths, object), start + len(batch.paths)
        unreadable += zip(paths[~readable], np.array(batch.notes, object)[~readable], strict=True)
        if not len(rows):
            continue
        seen = read_pictures(network, batch.pictures, reference.temperature)
        distance, closest = nearest(reference.features["train"], seen.features)
        features.append(seen.features[compared[rows]])
        early.append(seen.early[compared[rows]])
        columns = {
            "path": paths[readable],
            "prediction": names[decision.moved(seen.predictions, seen.confidences, names.tolist(), point)],
            "confidence": seen.confidences,
            "distance": distance,
            "nearest": reference.ids["train"][closest],
            "compared": compared[rows],
            "file": rows,
        }
        if before is not None and known is not None and seen.early.shape[1] == known.shape[1]:
            new = standardised({"new": seen.early}, before)["new"]
            columns["early_distance"] = nearest(known, new)[0]
        tables.append(pd.DataFrame(columns))
    if not tables:
        raise InputError(
            f"{len(files)} files are there, none of them a picture that can be read; give another folder."
        )
    table = pd.concat(tables, ignore_index=True)
    return table, np.concatenate(features), np.concatenate(early), unreadable


def write_page(
    path: str | Path,
    *,
    title: str,
    source: str,
    run_name: str,
    found: Shift,
    reference: Reference,
    shown: dict[str, np.ndarray],
    unreadable: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the self-contained page about a shift to `path`, whole or not at all, and return the path.

    Args:
        path: of the HTML file.
        title: the heading.
        source, run_name: where the new pictures come from, and the run they are compared with.
        found: from `measure`.
        reference: of the run; gives the nearest training pictures.
        shown: path -> uint8 (h, w, 3), the pictures to show, in `found.pictures`.
        unreadable: (path, reason) of the files that were left out.
    """
    place = {int(one): number for number, one in enumerate(reference.ids["train"])}
    farthest = [
        {
            "uri": sheets.data_uri(shown[row["path"]], 160),
            "nearest": _webp_uri(reference.thumbnails[place[row["nearest"]]]),
            "name": Path(row["path"]).name,
            "path": row["path"],
            "prediction": row["prediction"],
            "confidence": words.percent(row["confidence"], 0),
            "percentile": f"{row['percentile']:.0f}",
            "early": f"{row['early_percentile']:.0f}" if "early_percentile" in row else "",
        }
        for row in found.pictures.head(FARTHEST).to_dict("records")
        if row["path"] in shown
    ]
    change = (found.classes["new"] - found.classes["validation"]).abs()
    classes = found.classes.loc[change.sort_values(ascending=False, kind="stable").index].head(CLASSES)
    return pages.write(
        path,
        "shift.html.j2",
        title=title,
        source=source,
        run_name=run_name,
        found=found,
        verdict=verdict(found),
        shifted=found.p_value <= 0.05,
        mixed=found.p_value <= 0.05 < found.p_value_within,
        few=min(found.examples, found.reference_examples) < FEW,
        layers=list(reference.early_layers),
        number=len(found.pictures),
        classes=classes.to_dict("records"),
        more_classes=len(found.classes) - len(classes),
        farthest=farthest,
        unreadable=list(unreadable)[:UNREADABLE],
        more_unreadable=max(0, len(unreadable) - UNREADABLE),
        date=datetime.date.today().isoformat(),
    )


def _webp_uri(file: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(file).decode('ascii')}"
