"""How well a model foretells texts: bits per character, and the probability that it gives to a character.

Both are one number: of b bits per character the probability is 2^-b, the geometric mean over all characters
(Shannon 1951). What a model takes for a token is shared by its characters, so that models with other tokens,
or with none, can be compared.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from runner.errors import InputError
from runner.scores import intervals, paired

SCORE = "probability"
RESAMPLES, SEED = 1000, 0
_CELLS = 2_000_000


@dataclass(frozen=True, eq=False)
class Told:
    """What a model took for each passage.

    ids: int64 (passages,); nats: float64 (passages,), the sum of -ln p over its tokens; characters: int64
    (passages,).
    """

    ids: np.ndarray
    nats: np.ndarray
    characters: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.ids) or self.characters.sum() <= 0:
            raise InputError("there is no text to be told; give the split at least one passage.")

    @property
    def bits(self) -> float:
        """Bits per character, of all passages together."""
        return float(self.nats.sum() / self.characters.sum() / np.log(2))

    def numbers(self, groups: pd.Series | None = None, resamples: int = RESAMPLES) -> dict[str, Any]:
        """{"probability", "probability_interval", "bits_per_character", "bits_per_character_interval",
        "characters", "examples"}; intervals of 95 % by a bootstrap over passages, or over groups of them.

        groups: by id, as of `intervals.units`.
        """
        bits = self._drawn(groups, resamples)
        low, high = intervals.percentile(bits)
        return {
            SCORE: 2**-self.bits,
            f"{SCORE}_interval": [2**-high, 2**-low],
            "bits_per_character": self.bits,
            "bits_per_character_interval": [low, high],
            "characters": int(self.characters.sum()),
            "examples": len(self.ids),
        }

    def less_than(self, other: "Told", groups: pd.Series | None = None) -> paired.Difference:
        """What the other gives a character more of probability, on the same passages, which are resampled for
        both alike.

        Raises InputError for other passages.
        """
        if not (np.array_equal(self.ids, other.ids) and np.array_equal(self.characters, other.characters)):
            raise InputError("received other passages to compare; give the same ones in the same order.")
        before, after = (2 ** -one._drawn(groups, RESAMPLES) for one in (self, other))
        low, high = intervals.percentile(after - before)
        return paired.Difference(2**-other.bits - 2**-self.bits, low, high, len(self.ids))

    def per_passage(self) -> pd.DataFrame:
        """A row per passage: id, characters, bits_per_character, probability."""
        bits = self.nats / np.maximum(self.characters, 1) / np.log(2)
        return pd.DataFrame(
            {
                "id": self.ids,
                "characters": self.characters,
                "bits_per_character": bits,
                SCORE: 2**-bits,
            }
        )

    def _drawn(self, groups: pd.Series | None, resamples: int) -> np.ndarray:
        """Bits per character of each resample; the same draws for whoever has the same passages."""
        whole, random = intervals.units(groups, self.ids), np.random.default_rng(SEED)
        found = []
        for start in range(0, resamples, chunk := max(1, _CELLS // len(self.ids))):
            times = intervals.drawn(random, len(self.ids), whole, min(chunk, resamples - start))
            found.append((times @ self.nats) / np.maximum(times @ self.characters, 1))
        return np.concatenate(found) / np.log(2)
