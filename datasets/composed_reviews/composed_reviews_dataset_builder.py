"""composed_reviews: short reviews with a label, as a TFDS dataset."""

import tensorflow_datasets as tfds

from . import composing


class Builder(tfds.core.GeneratorBasedBuilder):
    """Short reviews whose words of praise and blame are others in every split; nothing is downloaded."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.1.0": "No two reviews with the same aside share more.", "1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: text, of two or three English sentences; label negative or positive."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(composing.CLASSES)),
                }
            ),
            supervised_keys=("text", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: 400, 200 and 400 reviews."""
        return {split: self._generate_examples(split) for split in composing.SPLITS}

    def _generate_examples(self, split: str):
        """Yield (number in the split, example)."""
        for number, (text, label) in enumerate(composing.reviews(split)):
            yield number, {"text": text, "label": label}
