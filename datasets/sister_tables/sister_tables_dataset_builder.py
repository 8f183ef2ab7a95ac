"""sister_tables: a large table with eight outcomes and a small one with another, as a TFDS dataset."""

import numpy as np
import tensorflow_datasets as tfds

from . import worlds


class Builder(tfds.core.GeneratorBasedBuilder):
    """Made patients of a hospital and of a clinic behind whose tables lie the same risks; nothing is
    downloaded.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="clinic", description="The small table, with an outcome of its own."),
        tfds.core.BuilderConfig(name="hospital", description="The large table, with eight outcomes."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: numbers (NaN where missing), words and a date, then the outcomes."""
        of_clinic = self.builder_config.name == "clinic"
        names = [*worlds.MEASURED, *(worlds.NEW if of_clinic else ())]
        features: dict = {name: tfds.features.Scalar(np.float32) for name in names}
        features |= {name: tfds.features.Text() for name in (*worlds.ANSWERS, "visit")}
        if of_clinic:
            features |= {
                "subgroup": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["no", "yes"]),
            }
        else:
            outcomes = [f"outcome_{number + 1}" for number in range(worlds.OUTCOMES)]
            features |= {name: tfds.features.Scalar(np.int64) for name in outcomes}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: 1,500, 1,500 and 4,000 rows of the clinic, 10,000 of the hospital."""
        if self.builder_config.name == "hospital":
            return {"train": self._generate_examples("hospital")}
        return {name: self._generate_examples(name) for name in worlds.PARTS if name != "hospital"}

    def _generate_examples(self, part: str):
        """Yield (number in the part, row) of world 0."""
        yield from enumerate(worlds.table(worlds.World(0), part).to_dict("records"))
