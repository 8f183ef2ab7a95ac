"""What a run asks of a template's Config and of its data."""

from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from runner.machine import Machine
from runner.stage import Stage


class Settings(Protocol):
    """What a run asks of a template's Config."""

    @property
    def machine(self) -> Machine: ...

    @property
    def stages(self) -> tuple[Stage, ...]: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def backbone(self) -> str: ...

    @property
    def weights(self) -> str: ...


class Examples(Protocol):
    """What a run asks of the data: a `Data`, or a template's own record of several."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def manifest(self) -> pd.DataFrame:
        """A row per example, with the column "split"."""
        ...

    @property
    def problems(self) -> pd.DataFrame: ...

    def in_words(self) -> str:
        """The counts for the terminal."""
        ...
