"""Which pictures are kept of tasks that are over, and what a run keeps for tasks that are not known yet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runner import atomic
from runner.errors import InputError

FOLDER = "kept"
"""In the run folder: a file per method."""


def balanced(cells: np.ndarray, order: np.ndarray, capacity: int) -> np.ndarray:
    """Of examples the rows that are kept so that each cell (a class; of a domain, in a task) has as many as
    any other, as far as it has them: int64 (at most capacity,), cell by cell.

    cells: int (n,). order: int (n,), rows in the order in which those of a cell are let go last; so what is
    kept of more cells is a part of what was kept of fewer. Chaudhry et al., "On tiny episodic memories in
    continual learning" (2019, arXiv:1902.10486), compare this ("ring buffer") with `reservoir`.
    """
    of = {cell: order[cells[order] == cell] for cell in np.unique(cells)}
    kept = dict.fromkeys(of, 0)
    room = min(capacity, len(cells))
    while room:  # what a small cell leaves goes to the others
        open_cells = [cell for cell in of if kept[cell] < len(of[cell])]
        for number, cell in enumerate(open_cells):
            share = room // len(open_cells) + (number < room % len(open_cells))
            kept[cell] += min(share, len(of[cell]) - kept[cell])
        room = min(capacity, len(cells)) - sum(kept.values())
    return np.concatenate([of[cell][: kept[cell]] for cell in of]).astype(np.int64)


def reservoir(
    kept: np.ndarray, seen: int, rows: np.ndarray, capacity: int, random: np.random.RandomState
) -> np.ndarray:
    """What is kept after more examples came, one by one, each of all so far with equal chance: int64 rows.

    Vitter, "Random sampling with a reservoir" (1985), algorithm R. kept: rows of before. seen: how many
    examples came before. rows: those that come, in their order.
    """
    slots = list(kept)
    for number, row in enumerate(rows, start=seen):
        if len(slots) < capacity:
            slots.append(row)
        else:
            place = random.randint(number + 1)
            if place < capacity:
                slots[place] = row
    return np.array(slots, np.int64)


def plan(
    cells: np.ndarray,
    tasks: np.ndarray,
    count: int,
    before: int,
    capacity: int,
    by: str,
    seed: int,
    seen: int,
) -> list[np.ndarray]:
    """Rows of the pool that are kept after each of `count` tasks; no weight of a network decides it.

    cells, tasks: int (pool,), of each row, its cell and the number of its task (those that were kept before,
    the first `before` rows, -1). seen: how many examples had come when these were kept.
    """
    random = np.random.RandomState([seed, 7])
    news = [random.permutation(np.flatnonzero(tasks == number)) for number in range(count)]
    kept = np.arange(before)
    found = []
    for rows in news:
        if by == "balanced":
            # What was kept keeps its order, what is new has a random one.
            there = np.concatenate([kept, rows]).astype(np.int64)
            kept = there[balanced(cells[there], np.arange(len(there)), capacity)]
        else:
            kept = reservoir(kept, seen, rows, capacity, random)
        seen += len(rows)
        found.append(kept)
    return found


# ---------------------------------------------------------------- in the run folder


def file_of(run: Path, method: str) -> Path:
    """Where a run keeps what a method needs for tasks to come."""
    return Path(run) / FOLDER / f"{method.replace(' ', '_').replace('+', 'p')}.npz"


def write(
    run: Path, method: str, weights: Sequence[np.ndarray], kept: Mapping[str, np.ndarray], record: dict
) -> Path:
    """Write what goes on, whole or not at all. record: plain JSON types."""
    members = {f"weight_{number:05}": one for number, one in enumerate(weights)}
    members |= {f"kept_{name}": one for name, one in kept.items()}
    members = {name: one.astype("float32") if one.dtype.kind == "V" else one for name, one in members.items()}
    path = file_of(run, method)
    path.parent.mkdir(parents=True, exist_ok=True)

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, record=np.array(json.dumps(record)), **members)

    return atomic.write(path, save)


def check(run: Path, method: str) -> Path:
    """`file_of` a method; raises InputError where the run kept nothing for it."""
    path = file_of(run, method)
    if not path.is_file():
        there = sorted(one.stem for one in path.parent.glob("[!b]*.npz"))  # but for below_...
        raise InputError(
            f"continue_from={str(run)!r} kept nothing for {method!r}, but for {', '.join(there) or 'none'}; "
            "give --methods that it had, or another run."
        )
    return path


def read(run: Path, method: str) -> tuple[list[np.ndarray], dict[str, np.ndarray], dict]:
    """What `write` kept: weights, arrays, record. Raises InputError where it is not there, or damaged."""
    path = check(run, method)
    try:
        atomic.check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        record = json.loads(str(arrays.pop("record")))
    except Exception as error:  # zipfile, zlib and NumPy raise almost anything on a damaged file
        raise InputError(
            f"{path} is damaged ({' '.join(str(error).split())[:100]}); give another run."
        ) from error
    weights = [arrays[name] for name in sorted(arrays) if name.startswith("weight_")]
    kept = {name.removeprefix("kept_"): one for name, one in arrays.items() if name.startswith("kept_")}
    return weights, kept, record
