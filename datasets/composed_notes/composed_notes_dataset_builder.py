"""composed_notes: short texts with named entities, as a TFDS dataset."""

import numpy as np
import tensorflow_datasets as tfds

from . import composing


class Builder(tfds.core.GeneratorBasedBuilder):
    """Short texts with names that are others in every split; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: text, of one or two English sentences; its entities in their order, with
        start and end in characters (code points) of the text, the end exclusive, and the type.
        """
        entity = {
            "start": np.int32,
            "end": np.int32,
            "type": tfds.features.ClassLabel(names=list(composing.TYPES)),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "entities": tfds.features.Sequence(entity)}
            )
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: 400, 200 and 400 texts."""
        return {split: self._generate_examples(split) for split in composing.SPLITS}

    def _generate_examples(self, split: str):
        """Yield (number in the split, example)."""
        for number, (text, spans) in enumerate(composing.notes(split)):
            entities = [{"start": start, "end": end, "type": kind} for start, end, kind in spans]
            yield number, {"text": text, "entities": entities}
