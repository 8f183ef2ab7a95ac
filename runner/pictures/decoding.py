"""Every picture of a source is decoded once before training: what it is, what is odd, and its resized form.

Pictures that don't fit in memory are decoded again in each pass.
"""

import itertools
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data.source import Source, Target
from runner.pictures import images, square


def look_at_all(
    found: Source, image_size: int, resize: str, pictures: np.ndarray | None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, dict[int, Target], list[tuple[str, str, str]]]:
    """Decode every example once; fill `pictures`, uint8 (examples, image_size, image_size, 3), if there are.

    Returns the facts (DataFrame with sha256, width, height, format, gray, turned), the thumbnails and colours
    that `near_duplicates.find` takes, the `Target` of each row that has one (without `pictures` only its
    amounts, beside the first with its arrays), and problem rows (path, kind, message).
    """
    thumbnails = np.zeros((len(found.examples), 32, 32), dtype=np.uint8)
    colours = np.zeros((len(found.examples), 8, 8, 2), dtype=np.uint8)
    targets: dict[int, Target] = {}

    def work(row: int, file: str | bytes) -> tuple[tuple, Target | None, list[tuple[str, str]]]:
        try:
            with images.decoded(file) as (image, note):
                problems, target = [("converted", note)] if note else [], None
                if blank := images.dark(image):
                    problems.append(("blank", blank))
                if found.target is not None:
                    target = found.target(row, *image.size, image_size, resize)
                    problems += target.problems
                if pictures is not None:
                    pictures[row] = square.resize(image, image_size, resize)
                *facts, thumbnails[row], colours[row] = images.look(file, image)
                return (images.digest(image), *facts), target, problems
        except images.Unreadable as error:
            return ("", 0, 0, "", False, False), None, [("unreadable", str(error))]

    rows, problems = [], []
    workers = min(8, os.cpu_count() or 1)
    # Pillow warns of odd metadata and large pictures; what matters becomes a problem row. The filter is the
    # whole process's, so it is set here and not in the threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        files = enumerate(found.read())
        while batch := list(itertools.islice(files, 64 * workers)):  # so that encoded pictures never pile up
            for (row, _), (facts, target, said) in zip(
                batch, pool.map(work, *zip(*batch, strict=True)), strict=True
            ):
                rows.append(facts)
                problems += [(found.examples["path"].iat[row], *one) for one in said]
                if target is not None:
                    keep = pictures is not None or not targets
                    targets[row] = target if keep else target._replace(arrays={})
    facts = pd.DataFrame(rows, columns=["sha256", "width", "height", "format", "gray", "turned"])
    return facts, thumbnails, colours, targets, problems


def stack(
    targets: dict[int, Target], examples: int, classes: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the targets' arrays by name, a row per example, and the amounts, int64 (examples, classes).

    Both are 0 where an example has no target; of targets that came without arrays there are no arrays.
    """
    amounts = np.zeros((examples, classes), dtype=np.int64)
    kept = {row: target for row, target in targets.items() if target.arrays}
    arrays = {}
    if len(kept) == len(targets):
        first = next(iter(targets.values())).arrays if targets else {}
        arrays = {name: np.zeros((examples, *one.shape), one.dtype) for name, one in first.items()}
    for row, target in targets.items():
        amounts[row] = target.amounts
        for name, values in arrays.items():
            values[row] = target.arrays[name]
    return arrays, amounts


def dataset(
    found: Source,
    ids: np.ndarray,
    labels: np.ndarray,
    targets: dict[int, Target],
    image_size: int,
    resize: str,
) -> tf.data.Dataset:
    """Return a dataset that decodes its pictures in each pass, in parallel, in the order of `ids`.

    targets: of `look_at_all`; their first has the names, shapes and dtypes of all. A source that streams the
    pictures themselves (TFDS) keeps its own order.

    Its attribute `undecoded` is a pair for who wants to shuffle and divide before anything is decoded: a
    dataset of the same length and order, of "id", "file" and "is_path", and a function that makes of a batch
    of these the batch of examples.
    """
    wanted = set(ids.tolist())
    shapes = next(iter(targets.values())).arrays if targets else {}

    def encoded() -> Iterator[dict]:
        rows = enumerate(found.read())
        first = next(rows)
        if isinstance(first[1], str):
            paths = [first[1], *(path for _, path in rows)]
            for row in ids:
                yield {"id": row, "file": os.fsencode(paths[row]), "is_path": True}
        else:
            for row, file in itertools.chain([first], rows):
                if row in wanted:
                    yield {"id": row, "file": file, "is_path": False}

    def decode_one(row: int, file: bytes, is_path: bool) -> list[np.ndarray]:
        with images.decoded(os.fsdecode(file) if is_path else file) as (image, _):
            values = [square.resize(image, image_size, resize)]
            if shapes and found.target:
                arrays = found.target(int(row), *image.size, image_size, resize).arrays
                values += [arrays[name] for name in shapes]
            return values

    specs = {"input": ((image_size, image_size, 3), np.dtype(np.uint8))}
    specs |= {name: (one.shape, one.dtype) for name, one in shapes.items()}

    def decode_all(rows: np.ndarray, files: np.ndarray, are_paths: np.ndarray) -> list[np.ndarray]:
        # A share of a small batch may have no row.
        arrays = [np.empty((len(rows), *shape), dtype) for shape, dtype in specs.values()]
        for place, one in enumerate(zip(rows, files, are_paths, strict=True)):
            for array, value in zip(arrays, decode_one(*one), strict=True):
                array[place] = value
        return arrays

    def decode(batch: dict) -> dict:
        rows, given = batch["id"], [batch[name] for name in ("id", "file", "is_path")]
        dtypes = [tf.as_dtype(dtype) for _, dtype in specs.values()]
        arrays = tf.numpy_function(decode_all, given, dtypes)
        for array, (shape, _) in zip(arrays, specs.values(), strict=True):
            array.set_shape((rows.shape[0], *shape))
        others = {name: batch[name] for name in batch.keys() - {"file", "is_path"}}
        label = {} if shapes else {"label": tf.gather(labels, rows)}
        return others | dict(zip(specs, arrays, strict=True)) | label

    def element(example: dict) -> dict:
        one = decode({name: value[None] for name, value in example.items()})
        return {name: value[0] for name, value in one.items()}

    signature = {
        "id": tf.TensorSpec((), tf.int64),
        "file": tf.TensorSpec((), tf.string),
        "is_path": tf.TensorSpec((), tf.bool),
    }
    files = tf.data.Dataset.from_generator(encoded, output_signature=signature)
    files = files.apply(tf.data.experimental.assert_cardinality(len(ids)))
    elements = files.map(element, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    elements.undecoded = files, decode
    return elements
