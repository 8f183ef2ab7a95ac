"""The trained network of rows as others can run it.

    python -m runner export RUN --format savedmodel

A SavedModel takes the columns as they are: numbers, and strings for categories and dates. LiteRT and ONNX
take rows as numbers, float32 (batch, columns), and beside them stands what each column is and which
number each category has.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from runner import atomic
from runner.runs import decision, folder, formats
from runner.table_runs import effects_export, predict
from runner.table_runs.probe_rows import probes
from runner.tables import columns as columns_of
from runner.tables import layers


def run(
    run_folder: str | Path, wanted: Sequence[str] = ("savedmodel",), output: str | Path | None = None
) -> dict[Path, float]:
    """Export the model of a run on tables; return for each file or folder its largest relative difference.

    run_folder: of a complete run. wanted: names from `runs.formats.NAMES`. output: folder for the results, by
    default `run_folder`/export. Writes decision.NAME beside them, with the columns.
    Raises InputError for a folder that is no complete run on tables, and what `runs.formats` raises.
    """
    formats.check(wanted)
    run_folder = Path(os.path.expanduser(run_folder))
    if "policy_cost" in folder.read_complete(run_folder):  # what the template on effects has
        return effects_export.run(run_folder, wanted, output)
    network, _, _ = predict.load(run_folder)
    columns = layers.columns_in(network)
    place = atomic.place(output, "--output") if output else run_folder / "export"
    prepared = {
        "columns": columns_of.record(columns),
        "missing": {"number": "NaN", "date": "NaN", "category": columns_of.GONE},
        "unseen": columns_of.UNSEEN,
        "first": columns_of.FIRST,
        "dates": "days from 1970-01-01",
    }
    beside = decision.record(run_folder, network.output.shape[1:], prepared)
    cells = probes(columns)
    given, rows = layers.as_inputs(cells, columns), columns_of.coded(cells, columns)
    logits = np.asarray(network({name: tf.constant(one) for name, one in given.items()}))
    found: dict[Path, float] = {}
    for name in wanted:
        taken = tf.TensorSpec((None, len(columns)), tf.float32, name="row")
        of_columns = name == "savedmodel"
        whole = network if of_columns else layers.of_rows(network)
        inputs = [given] if of_columns else [rows]
        found |= formats.export(whole, taken, inputs, [logits], [name], place, beside)
    return found
