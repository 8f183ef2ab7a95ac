"""How far new pictures lie from those a network was trained on, in the space of its own features.

    python -m runner shift RUN FOLDER

Two two-sample tests, each beside what the same test gives without a shift, and each picture's distance to its
nearest training pictures. The tests compare with validation, not with training: a network is fitted to its
training pictures, and their features lie apart from those of any fresh picture of the same kind. On
digits_in_photos (200 training pictures, 198 validation pictures, 600 fresh ones) the proxy A-distance of the
fresh ones was 0.38 from training and 0.00 from validation, and p was 0.08 and 0.88.
"""

import base64
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import euclidean_distances

from runner import atomic
from runner.errors import InputError
from runner.networks import inference
from runner.picture_runs import predict
from runner.pictures import images, reference, square
from runner.pictures.reference import Reference, extractor, read_pictures
from runner.report import pages, sheets, words
from runner.runs import folder
from runner.scores.two_sample import mmd_test, proxy_a_distance

SAMPLE = 1000
"""The most pictures of each side that the two tests compare: their cost grows with its square."""
FEW = 20
"""With fewer pictures on either side the tests see only a large shift."""
HALVES = 20
"""How often validation is halved to see what proxy A-distance is without a shift."""
NEIGHBOURS = 5
FARTHEST, CLASSES, UNREADABLE = 24, 20, 10
"""The most pictures, classes and unreadable files that the page shows."""


@dataclass(frozen=True, eq=False)
class Shift:
    """What `measure` found; a yardstick is what the same number stays below in 95 of 100 cases without a
    shift.

    examples, reference_examples: how many new and validation pictures the two tests compared.
    mmd, mmd_yardstick, p_value: squared maximum mean discrepancy, and its permutation test.
    p_value_within: of the same test when the two sides may mix the predicted classes in other proportions.
    distance, distance_yardstick: proxy A-distance, 0..2; the yardstick is that of halves of validation.
    far: share (0..1) of the new pictures that lie farther from training than 95 % of validation.
    classes: DataFrame, a row per class: class, validation, new (shares of the predictions, 0..1).
    confidence: mean confidence, 0..1, of "training", "validation" and "new".
    pictures: DataFrame, a row per new picture, farthest first: path, prediction, confidence (0..1), distance
    (mean Euclidean distance to the 5 nearest training pictures), percentile (0..100, how many of 100
    validation pictures lie nearer), nearest (the nearest training picture, a row of the run's manifest).
    """

    examples: int
    reference_examples: int
    mmd: float
    mmd_yardstick: float
    p_value: float
    p_value_within: float
    distance: float
    distance_yardstick: float
    far: float
    classes: pd.DataFrame
    confidence: dict[str, float]
    pictures: pd.DataFrame


def measure(reference: Reference, features: np.ndarray, table: pd.DataFrame, seed: int = 0) -> Shift:
    """Compare new pictures with those of a run.

    Args:
        reference: of the run.
        features: float32 (m, d), of all new pictures or of a random choice of some SAMPLE.
        table: a row per new picture, columns path, prediction (class name), confidence, distance and nearest
            (both from `nearest`), and compared (bool), True for the m rows that `features` belong to.
        seed: of the sample of validation, the permutations and the halves.

    Raises:
        InputError: fewer than two new or validation pictures.
    """
    validation, names = reference.features["val"], np.array(reference.classes)
    if min(len(features), len(validation)) < 2:
        raise InputError(
            f"Received {len(features)} new and {len(validation)} validation pictures to compare; a shift is "
            f"a property of many: give at least 2, better {FEW} or more."
        )
    random = np.random.default_rng(seed)
    rows = random.permutation(len(validation))[:SAMPLE]
    known = validation[rows]
    mmd, permuted, p_value = mmd_test(known, features, seed=seed)
    before = names[reference.predictions["val"]]
    predicted = np.concatenate([before[rows], table.loc[table["compared"], "prediction"].astype(str)])
    _, _, p_value_within = mmd_test(known, features, seed=seed, strata=predicted)
    half = min(len(features), len(known) // 2)  # as many as there are new pictures, where validation has them
    halves = [
        proxy_a_distance(dealt[half:], dealt[:half], seed)
        for dealt in (random.permutation(known) for _ in range(HALVES if half >= 2 else 0))
    ]
    own, _ = nearest(reference, validation)
    percentile = 100 * np.searchsorted(np.sort(own), table["distance"].to_numpy()) / len(own)
    shares = {"validation": pd.Series(before), "new": table["prediction"]}
    classes = pd.DataFrame({side: one.value_counts(normalize=True) for side, one in shares.items()})
    confidences = {
        "training": reference.confidences["train"],
        "validation": reference.confidences["val"],
        "new": table["confidence"],
    }
    return Shift(
        examples=len(features),
        reference_examples=len(known),
        mmd=mmd,
        mmd_yardstick=float(np.quantile(permuted, 0.95)),
        p_value=p_value,
        p_value_within=p_value_within,
        distance=proxy_a_distance(known, features, seed),
        distance_yardstick=float(np.quantile(halves, 0.95)) if halves else float("nan"),
        far=float(np.mean(percentile > 95)),
        classes=classes.reindex(names).fillna(0.0).rename_axis("class").reset_index(),
        confidence={side: float(one.mean()) for side, one in confidences.items()},
        pictures=table.assign(percentile=percentile)
        .sort_values("distance", ascending=False, kind="stable")
        .reset_index(drop=True)[["path", "prediction", "confidence", "distance", "percentile", "nearest"]],
    )


def nearest(reference: Reference, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean distance to the 5 nearest training pictures, and the nearest one's id: (m,), (m,)."""
    train = reference.features["train"].astype(np.float64)
    distances = euclidean_distances(features.astype(np.float64), train)
    closest = np.partition(distances, min(NEIGHBOURS, len(train)) - 1, axis=1)[:, :NEIGHBOURS]
    return closest.mean(axis=1), reference.ids["train"][distances.argmin(axis=1)]


def verdict(found: Shift) -> str:
    """What the numbers say, in one sentence."""
    if found.p_value > 0.05:
        sentence = "No shift was found: these pictures look to the network like its validation pictures"
    elif found.p_value_within > 0.05:
        sentence = "The classes are mixed in other proportions; within each of them no shift was found"
    elif found.distance < 0.5:
        sentence = "A small shift: one by one, few of these pictures can be told from the validation pictures"
    elif found.distance < 1.5:
        sentence = "A clear shift: most of these pictures can be told from the validation pictures"
    else:
        sentence = "Another kind of pictures: almost every one can be told from the validation pictures"
    few = min(found.examples, found.reference_examples) < FEW
    return sentence + (", but with so few pictures only a large shift can be seen." if few else ".")


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
    reading = extractor(model, known.layer)
    if reading.output[0].shape[-1] != known.features["val"].shape[1] or known.classes != tuple(classes):
        raise InputError(
            f"{run_folder}: reference.npz has {known.features['val'].shape[1]} features and the classes "
            f"{', '.join(known.classes[:5])}, model.keras {reading.output[0].shape[-1]} and "
            f"{', '.join(classes[:5])}; they are not of one run."
        )
    network = inference.forward(reading)
    table, features, unreadable = _read(files, network, known, config, batch_size)
    result = measure(known, features, table)

    shown = {}
    for row in table.nlargest(FARTHEST, "distance").itertuples():
        picture, _ = images.decode(files[row.file])
        shown[row.path] = square.resize(picture, config["image_size"], config["resize"])
    place = folder.make_unused(run_folder / "shift" / images_folder.resolve().name)
    atomic.write_csv(place / "pictures.csv", result.pictures)
    numbers = {name: value for name, value in vars(result).items() if name not in ("classes", "pictures")}
    atomic.write_json(
        place / "shift.json",
        {"verdict": verdict(result)} | numbers | {"classes": result.classes.to_dict("records")},
    )
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
    files: Sequence[Path], network, reference: Reference, config: dict, batch_size: int
) -> tuple[pd.DataFrame, np.ndarray, list[tuple[str, str]]]:
    """Return the table for `measure` (with a column `file`, the place in `files`), the features of the rows
    to compare, and (path, reason) of what cannot be read.
    """
    # All features of a large folder would not fit in memory: which rows are compared is chosen beforehand.
    compared = np.zeros(len(files), bool)
    compared[np.random.default_rng(0).permutation(len(files))[:SAMPLE]] = True
    names, start = np.array(reference.classes), 0
    tables, features, unreadable = [], [], []
    for batch in predict.batches(files, config["image_size"], config["resize"], batch_size):
        readable = np.array(batch.readable)
        rows = start + np.flatnonzero(readable)
        paths, start = np.array(batch.paths, object), start + len(batch.paths)
        unreadable += zip(paths[~readable], np.array(batch.notes, object)[~readable], strict=True)
        if not len(rows):
            continue
        found, predictions, confidences = read_pictures(network, batch.pictures, reference.temperature)
        distance, closest = nearest(reference, found)
        features.append(found[compared[rows]])
        columns = {"path": paths[readable], "prediction": names[predictions], "confidence": confidences}
        columns |= {"distance": distance, "nearest": closest, "compared": compared[rows], "file": rows}
        tables.append(pd.DataFrame(columns))
    if not tables:
        raise InputError(
            f"{len(files)} files are there, none of them a picture that can be read; give another folder."
        )
    return pd.concat(tables, ignore_index=True), np.concatenate(features), unreadable


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
