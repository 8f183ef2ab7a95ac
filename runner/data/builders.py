"""Labelled examples from TFDS: its own datasets by name, and those of datasets/ by path.

Which of a builder's features are the input and the label is what each kind of example says (`Keys`).
"""

import contextlib
import hashlib
import importlib
import importlib.util
import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow_datasets as tfds

from runner.data.files import SPLIT_WORDS
from runner.data.source import Source, dataset_folder
from runner.errors import InputError, suggest

Keys = Callable[[str, Any], Any]
"""Takes what the user wrote and a builder's features; returns the names of those that are meant, or raises
InputError where the dataset is of another kind."""


def find(source: str, keys: Keys) -> Source:
    """List the examples of `tfds:NAME[/config][:version]` or of datasets/NAME[/config], made if missing.

    keys: gives the names of the input, the label and (or "") the group. Inputs are read as they are stored,
    pictures as the bytes of a file. Raises InputError for a name that is not there and for labels without
    classes, or of some examples only.
    """
    builder, (key, label, group), chosen = prepared(source, keys)
    classes = builder.info.features[label].names
    if not classes:
        raise InputError(
            f"Received data={source!r}, whose label {label!r} has no classes; choose another dataset."
        )

    rows, problems, used = [], [], []
    for name, split in chosen.items():
        wanted = {key: builder.info.features[key] for key in (label, group) if key}
        parts = list(read_split(builder, name, tfds.decode.PartialDecoding(wanted)))
        if all(part[label] < 0 for part in parts):  # TFDS marks labels that were never published with -1
            problems.append(
                (f"{builder.name}/{name}", "unlabelled", f"split {name!r} has no labels and is left out")
            )
            continue
        if any(part[label] < 0 for part in parts):
            raise InputError(
                f"Received data={source!r}, whose split {name!r} has labels for some examples only."
            )
        used.append(name)
        for i, part in enumerate(parts):
            of = "" if not group else _text(part[group])
            rows.append((f"{builder.name}/{name}[{i}]", classes[part[label]], split, of))
    given = len(used) > 1

    def read() -> Iterator[bytes]:
        for name in used:
            for part in read_split(builder, name, {key: tfds.decode.SkipDecoding()}):
                yield part[key]

    examples = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)
    if not given:
        examples["split"] = ""
    return Source(examples, tuple(classes), read, problems)


def prepared(source: str, keys: Keys) -> tuple[tfds.core.DatasetBuilder, Any, dict[str, str]]:
    """Return the builder that `source` names, its files made or downloaded where they are missing, what
    `keys(source, features)` returns (it may refuse them, before a download that would be in vain), and for
    each of its splits that has examples and is used: train, val or test.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # a log file wants no thousand lines of bars
    with _errors_only("absl"):  # TFDS warns of its own deprecated names and of folders that are not there yet
        builder = _builder(source)
        chosen_keys = keys(source, builder.info.features)
        _prepare(source, builder)
    counts = {name: split.num_examples for name, split in builder.info.splits.items() if split.num_examples}
    chosen = {name: SPLIT_WORDS[name] for name in counts if name in SPLIT_WORDS}
    if "train" not in chosen.values() and len(counts) == 1:
        chosen = dict.fromkeys(counts, "train")
    if "train" not in chosen.values() or len(set(chosen.values())) < len(chosen):
        raise InputError(
            f"Received data={source!r} with the splits {', '.join(counts) or 'none'}; expected one train "
            "split and at most one each of validation and test."
        )
    return builder, chosen_keys, chosen


def _builder(source: str) -> tfds.core.DatasetBuilder:
    """Return the TFDS builder that `source` names."""
    if not source.startswith("tfds:"):
        folder, _, config = source.partition("/")
        builder = _local(dataset_folder(folder))
        if config and config not in builder.builder_configs:
            parts = ", ".join(f"{folder}/{one}" for one in builder.builder_configs) or f"{folder} alone"
            raise InputError(f"Received data={source!r}; {folder} has no such part: give {parts}.")
        return builder(config=config) if config else builder()
    name = source[len("tfds:") :]
    try:
        return tfds.builder(name)
    except Exception as error:  # TFDS has a dozen kinds: unknown name, config, version, malformed name, ...
        names = tfds.list_builders()
        if name.split("/")[0].split(":")[0] in names:
            raise InputError(f"Received data={source!r}; TFDS answers: {_one_line(error)}.") from None
        hint = suggest(name, names) or " Its names are listed at tensorflow.org/datasets/catalog."
        raise InputError(f"Received data={source!r}, a name that TFDS does not know.{hint}") from None


def _prepare(source: str, builder: tfds.core.DatasetBuilder) -> None:
    """Make or download the files of a builder where they are not on disk yet."""

    def once(record: logging.LogRecord) -> bool:
        # Without a network there are ten such warnings for each file, over minutes.
        if not warned:
            print(
                f"No answer for {source}; trying again for some minutes (Ctrl-C gives up).", file=sys.stderr
            )
        warned.append(record)
        return False

    warned: list[logging.LogRecord] = []
    retries = logging.getLogger("urllib3.connectionpool")
    retries.addFilter(once)
    if not builder.is_prepared():
        print(f"Preparing {source} in {builder.data_dir}; later runs find it there.")
    try:
        # TFDS announces a download of unknown size, also of what is made on the spot.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except Exception as error:  # no network, no room, a package that the builder wants, ...
        raise InputError(
            f"Received data={source!r}, which is not in {str(builder.data_dir)!r} and could not be prepared: "
            f"{_one_line(error)}. Prepare it where there is a network and set TFDS_DATA_DIR to that folder."
        ) from None
    finally:
        retries.removeFilter(once)


def _local(folder: Path) -> type[tfds.core.DatasetBuilder]:
    """Return the builder class in a folder of datasets/, by path: another package may be `datasets`."""
    package = f"_dataset_{folder.name}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    module = next(folder.glob("*_dataset_builder.py")).stem
    # Not registered by name: the same builder may be loaded from two copies of this project in one process.
    with tfds.core.registered.skip_registration():
        if package not in sys.modules:
            spec = importlib.util.spec_from_file_location(
                package, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
            assert spec and spec.loader  # an __init__.py is Python's own kind of file
            sys.modules[package] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[package])
        return importlib.import_module(f"{package}.{module}").Builder


def read_split(builder: tfds.core.DatasetBuilder, split: str, decoders: Any) -> Iterator[dict]:
    """Yield the examples of a split as numpy values, in the order of the files."""
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    with _errors_only("absl"):
        dataset = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders, read_config=config)
    yield from dataset.as_numpy_iterator()


@contextlib.contextmanager
def _errors_only(logger: str):
    level = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(level)


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _one_line(error: Exception) -> str:
    if type(error).__module__.startswith("requests"):
        return f"its files could not be downloaded ({type(error).__name__})"
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 300 else text[:300] + " ...").rstrip(".:")
