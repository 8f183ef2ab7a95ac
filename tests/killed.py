"""A run that is killed on the way and goes on, beside one that is not: what tests of many templates ask."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent


def ends_as_one_that_was_not(
    template: str,
    flags: Sequence[object],
    folder: Path,
    after: str,
    files: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Train twice; the second run is killed once it has a state of "staged" that is later than `after`, and
    is started again. Both must leave the same tables, to the last bit.

    template: of templates/. flags: without --run-dir and --deterministic. after: such as
    "epoch-00003". files: the tables, without their column "seconds". environment: beside what there is.
    """

    def start(run: Path) -> subprocess.Popen:
        given = ("--run-dir", run, "--deterministic", *flags)
        return subprocess.Popen(
            [sys.executable, "-m", f"templates.{template}.train", *map(str, given)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(environment or {}),
        )

    whole, killed = folder / "whole", folder / "killed"
    process = start(whole)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    process, states = start(killed), killed / "checkpoints" / "staged"
    while process.poll() is None:
        if any(path.name > after for path in states.glob("*.npz")):
            process.kill()
        threading.Event().wait(0.01)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == -9, output
    process = start(killed)
    output = process.communicate(timeout=600)[0]
    assert "an unfinished run, which goes on" in output and process.returncode == 0, output
    for file in files:
        tables = [pd.read_csv(run / file).drop(columns="seconds", errors="ignore") for run in (whole, killed)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
