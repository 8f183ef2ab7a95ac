"""The network of a run on treatment effects as others can run it: a SavedModel that takes columns.

    python -m runner export RUN --format savedmodel

What it gives is named in decision.json beside it, with the bounds outside of which an effect is not to be
read.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from runner import atomic
from runner.errors import InputError
from runner.networks import saved
from runner.runs import folder, formats
from runner.table_runs.probe_rows import probes
from runner.tables import columns as columns_of
from runner.tables import layers

GIVEN = ("untreated", "treated", "effect", "half_width", "propensity")
"""The columns of what the network gives."""


def run(
    run_folder: str | Path, wanted: Sequence[str] = ("savedmodel",), output: str | Path | None = None
) -> dict[Path, float]:
    """Export the model of a run on effects; return for the folder its largest relative difference.

    run_folder: of a complete run. wanted: "savedmodel" alone. output: folder for the results, by default
    `run_folder`/export. Raises InputError for another format, for a folder that is no such run, and what
    `runs.formats` raises.
    """
    formats.check(wanted)
    other = [name for name in wanted if name != "savedmodel"]
    if other:
        raise InputError(
            f"--format {' '.join(other)} cannot take the words of a table, and a wrong number for one would "
            "be an effect of somebody else; give savedmodel."
        )
    run_folder = Path(os.path.expanduser(run_folder))
    folder.read_complete(run_folder)
    network = saved.load(run_folder)
    columns = layers.columns_in(network)
    if not columns or network.output.shape[-1] != len(GIVEN):
        raise InputError(f"{run_folder}: its network gives no effects; give a run on treatment effects.")
    cells = probes(columns)
    given = layers.as_inputs(cells, columns)
    told = np.asarray(network({name: tf.constant(one) for name, one in given.items()}))
    share = folder.read_metrics(run_folder).get("overlap", {}).get("share", 0.0)
    beside = {
        "columns": columns_of.record(columns),
        "gives": list(GIVEN),
        "decision": f"no effect where propensity is outside of {share:g} to {1 - share:g}; else effect +- "
        "half_width (95 %); not for clinical use",
    }
    place = atomic.place(output, "--output") if output else run_folder / "export"
    taken = tf.TensorSpec((None, len(columns)), tf.float32, name="row")
    return formats.export(network, taken, [given], [told], wanted, place, beside)
