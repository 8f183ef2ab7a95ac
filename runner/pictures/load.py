"""Labelled pictures from anywhere become one `Data`: three datasets, one manifest, and what was wrong.

Every picture is decoded once before training begins, so that nothing can fail in step 400.
"""

import hashlib
import inspect
from pathlib import Path

import numpy as np
import pandas as pd

from runner.data import examples, splits
from runner.data.checks import count
from runner.data.examples import Data
from runner.data.pairs import clusters as clusters_of
from runner.data.pairs import worst_first
from runner.data.sealed import Sealed
from runner.data.source import Source
from runner.data.splits import USED
from runner.errors import InputError
from runner.pictures import checks, decoding, images, in_memory, near_duplicates, sources, square

UNIT = "pictures"
LARGEST = 4096
"""The most pixels a side of the square that pictures become."""
PAIRS_SHOWN, ODD_SHOWN = 12, 8
"""Of how many near-duplicate pairs and pictures that may lie on their side the report shows the pictures."""


def load(
    source: str | Path | Source,
    image_size: int,
    *,
    seed: int = 0,
    labels_per_class: int | None = None,
    train_examples: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    on_bad_data: str = "skip",
    resize: str = "crop",
    memory_budget: int = 2 * 2**30,
    one_class: bool = False,
) -> Data:
    """Load labelled pictures, split them and check them.

    source: a name from datasets/; `tfds:NAME[/config][:version]` (prepared in TFDS's own folder,
    TFDS_DATA_DIR); a folder of class folders, or of train, val (validation) and test folders of class
    folders; or a .csv file with the columns path,label[,split][,group][,subgroup], paths relative to it.
    Or a `Source`, which may have boxes or masks. Splits that the source gives are kept. A missing val or test
    is carved out of train, stratified (boxes and masks: by the rarest class that a picture has something of)
    and seeded; pictures of one group, and pictures that are identical or nearly so, stay in one split. (Only
    near-duplicates that join more than 5 % of the pictures are divided, and reported.)
    labels_per_class: train on this many examples per class, and validate on at most as many (who has few
    labels has no large validation set either); the choice is nested for one seed; the rest is "unused" and
    test is never thinned.
    train_examples: the same for boxes and masks, for all classes together.
    val_fraction, test_fraction: share of the examples there are to split, in (0, 1); or 0 and 1, to judge a
    finished network by all of them (see `examples.divide`).
    on_bad_data: "skip" leaves out and names what cannot be decoded, "stop" raises.
    resize: "crop" (short side, centre), "pad" (black) or "stretch"; see `square.resize`.
    memory_budget: bytes of resized pictures to keep in memory; above it they are decoded again in each pass.
    one_class: pictures of one class alone will do, where they are told apart from others that are known.
    Raises InputError for what a person can put right.
    """
    _check_options(image_size, resize, memory_budget)
    examples.check_options(seed, labels_per_class, val_fraction, test_fraction, on_bad_data)
    found = source if isinstance(source, Source) else sources.find(source)
    shown = repr(found.name) if isinstance(source, Source) else repr(str(source))
    alone = one_class or test_fraction == 1
    examples.check_source(found, shown, labels_per_class, train_examples, UNIT, trains=not alone)

    bytes_each = image_size**2 * (3 if found.target is None else 4)  # a mask has one byte a pixel
    fits = len(found.examples) * bytes_each <= memory_budget
    pictures = in_memory.aligned(len(found.examples), image_size) if fits else None
    facts, thumbnails, colours, targets, problems = decoding.look_at_all(found, image_size, resize, pictures)
    unreadable = [(path, message) for path, kind, message in problems if kind == "unreadable"]
    if unreadable and (on_bad_data == "stop" or len(unreadable) == len(facts)):
        path, message = unreadable[0]
        advice = "repair or remove them" + (
            ", or skip them with on_bad_data='skip'" if on_bad_data == "stop" else ""
        )
        raise InputError(
            f"Received data={shown}, of whose {len(facts)} files {len(unreadable)} cannot be used, "
            f"such as {path!r} ({message}); {advice}."
        )

    manifest = examples.begin_manifest(found).join(facts)
    if found.target is None:
        labels = manifest["label"].cat.codes.to_numpy(np.int64)
        arrays, amounts = {"label": labels}, None
    else:
        arrays, amounts = decoding.stack(targets, len(found.examples), len(found.classes))
        labels = examples.rarest(amounts)
        problems += found.remarks()
    pairs = _near_duplicates(manifest, thumbnails, colours)
    clusters = clusters_of(pairs, len(manifest))
    carved = splits.carved_in_words(set(manifest["split"]) - {""}, val_fraction, test_fraction)
    manifest["split"] = examples.divide(
        manifest,
        labels,
        clusters=clusters,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        labels_per_class=labels_per_class,
        train_examples=train_examples,
        unit=UNIT,
        amounts=amounts,
    )
    counts = count(manifest, found.classes, amounts)
    problems += checks.everything(manifest, counts, pairs, clusters, labelled=amounts is None)
    pairs = worst_first(pairs, manifest, clusters)
    told = examples.problems(found.problems + problems)
    odd = _odd_pictures(found, manifest, pairs, told, image_size, resize)

    ids = [examples.ids(manifest, split) for split in USED]
    if pictures is None:
        # No shuffle buffer holds them all; mixed here once, no batch is of one class.
        ids[0] = np.random.RandomState(seed).permutation(ids[0])
        datasets = [decoding.dataset(found, rows, labels, targets, image_size, resize) for rows in ids]
    else:
        datasets = in_memory.datasets(pictures, ids, arrays)
    train, val, test = datasets
    code = hashlib.sha256(b"".join(Path(inspect.getfile(one)).read_bytes() for one in (images, square)))
    return Data(
        train,
        val,
        Sealed(test),
        found.classes,
        manifest,
        told,
        pairs,
        odd,
        amounts,
        recipe=f"{resize} {image_size} {code.hexdigest()}",
        unit=UNIT,
        counted=found.counted,
        carved=carved,
    )


def _check_options(image_size: int, resize: str, memory_budget: int) -> None:
    if not examples.is_whole(image_size) or not 1 <= image_size <= LARGEST:
        raise InputError(
            f"Received image_size={image_size!r}; a whole number of pixels from 1 to {LARGEST} is allowed."
        )
    examples.check_choice("resize", resize, square.RESIZES)
    if not examples.is_whole(memory_budget) or memory_budget < 0:
        raise InputError(
            f"Received memory_budget={memory_budget!r}; a whole number of bytes from 0 is allowed."
        )


def _near_duplicates(manifest: pd.DataFrame, thumbnails: np.ndarray, colours: np.ndarray) -> pd.DataFrame:
    """Pairs of ids; of identical pictures only the first takes part."""
    once = ~manifest.duplicated("sha256") & (manifest["sha256"] != "")
    rows = np.flatnonzero(once)
    pixels = (manifest["width"] * manifest["height"]).to_numpy()[rows]
    pairs = near_duplicates.find(thumbnails[rows], colours[rows], pixels)
    return pairs.assign(first=rows[pairs["first"]], second=rows[pairs["second"]])


def _odd_pictures(
    found: Source,
    manifest: pd.DataFrame,
    pairs: pd.DataFrame,
    problems: pd.DataFrame,
    image_size: int,
    resize: str,
) -> dict[int, np.ndarray]:
    """Decode what the report shows of the problems once more; most sets have nothing of the kind."""
    sideways = set(problems["path"][problems["kind"] == "orientation"].head(ODD_SHOWN))
    wanted = {*pairs["first"].head(PAIRS_SHOWN), *pairs["second"].head(PAIRS_SHOWN)}
    wanted |= set(manifest.index[manifest["path"].isin(sideways)])
    files = enumerate(found.read()) if wanted else ()
    return {
        row: square.resize(images.decode(file)[0], image_size, resize) for row, file in files if row in wanted
    }
