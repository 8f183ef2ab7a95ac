"""composed_language: English sentences and what they are in an invented language, as a TFDS dataset."""

import tensorflow_datasets as tfds

from . import composing


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pairs of sentences with English words that are others in every split; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: a sentence in English ("en") and in the invented language ("xx")."""
        return self.dataset_info_from_configs(
            features=tfds.features.Translation(languages=("en", "xx")), supervised_keys=("en", "xx")
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: 1,500, 200 and 400 pairs."""
        return {split: self._generate_examples(split) for split in composing.SPLITS}

    def _generate_examples(self, split: str):
        """Yield (number in the split, example)."""
        for number, (english, foreign) in enumerate(composing.sentences(split)):
            yield number, {"en": english, "xx": foreign}
