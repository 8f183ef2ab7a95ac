"""How far the data that a source was trained on lies from the data at hand, where that data is known.

It is known of finished runs whose data is still where it was. Both sets go through the source's own frozen
network, and a linear classifier is to tell them apart: the proxy A-distance of `scores.two_sample`. The run's
side are its validation pictures or texts, for a network's features of what it was fitted to lie apart from
those of anything new.
"""

from collections.abc import Callable, Sequence

import numpy as np

from runner.choosing import features
from runner.choosing.candidates import Candidate
from runner.choosing.features import Examples, Features
from runner.data.examples import Data
from runner.errors import InputError
from runner.runs import folder, pairing
from runner.scores import two_sample

UNKNOWN = float("nan")
MOST = 500
"""Examples of each side: that many tell a distance to about .1."""
LEAST = 10
"""Validation examples without which nothing is said."""


def of_run(
    candidate: Candidate,
    here: Features,
    load: Callable[[dict], Data],
    content: Sequence[str | bytes],
    network: Callable[[], features.Network],
    seed: int = 0,
) -> float:
    """The proxy A-distance, 0..2, of a run's own validation examples from those that are ranked by.

    here: what the run's network makes of the latter. load: reads the run's data in the run's own splits, from
    its settings. content, network: as `features.of` takes them.
    UNKNOWN for what is no run, and where the data is gone or changed, or has too few to validate on.
    """
    if candidate.run is None:
        return UNKNOWN
    record = folder.read_complete(candidate.run)
    manifest = pairing.read_csv(candidate.run / "manifest.csv", dtype=str, keep_default_na=False)
    if not {"split", "sha256"} <= set(manifest.columns):
        return UNKNOWN
    try:
        data = load(record)
    except (InputError, KeyError):  # it is gone, or the run is of another kind
        return UNKNOWN
    # Where it has changed since, what both hold and call validation is still what it was.
    wanted = set(manifest.loc[manifest["split"] == "val", "sha256"]) - {""}
    now = data.manifest
    ids = _some(np.flatnonzero(now["sha256"].isin(wanted) & (now["split"] == "val")), seed)
    if len(ids) < LEAST:
        return UNKNOWN
    own = features.of(candidate.name, Examples(data, ids, np.zeros(len(ids), np.int64)), content, network)
    rows = _some(np.arange(len(here.values)), seed)
    return two_sample.proxy_a_distance(own.values, here.values[rows], seed)


def _some(ids: np.ndarray, seed: int) -> np.ndarray:
    """MOST of them at the most, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(ids)[:MOST])
