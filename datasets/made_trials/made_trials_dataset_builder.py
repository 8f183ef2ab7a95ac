"""made_trials: a large trial and four small ones, as a TFDS dataset of five parts."""

import numpy as np
import tensorflow_datasets as tfds

from . import making

WORLD = 0
TEST = 2_000
PARTS = {
    "large": ("large", 4_000),
    "little_100": ("little", 100),
    "little_400": ("little", 400),
    "much_100": ("much", 100),
    "much_400": ("much", 400),
}
"""Part -> how far its effects have moved, and its rows to train and choose on."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Made trials of one world; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in PARTS]

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the columns: see `making.trial`."""
        numbers = {f"number_{one + 1:02}": np.float32 for one in range(making.NUMBERS)}
        words = {"smoker": tfds.features.Text(), "site": tfds.features.Text()}
        rest = {"treatment": np.int64, "outcome": np.float32, "mu0": np.float32, "mu1": np.float32}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(numbers | words | rest))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: the large trial is all to learn from, a small one has 2,000 test rows."""
        move, rows = PARTS[self.builder_config.name]
        splits = {"train": self._generate_examples(move, rows, "train")}
        return splits if move == "large" else splits | {"test": self._generate_examples(move, TEST, "test")}

    def _generate_examples(self, move: str, rows: int, part: str):
        """Yield (number in the split, example)."""
        yield from enumerate(making.trial(WORLD, move, rows, part).to_dict("records"))
