"""The few_letters dataset."""

import importlib.util
from pathlib import Path

import tensorflow_datasets as tfds

# By its place, not by name: the head of photos.py says why.
_spec = importlib.util.spec_from_file_location("photos", Path(__file__).parent.parent / "photos.py")
photos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(photos)

SPLITS = {"train": 4_000, "validation": 2_000}


class Builder(tfds.core.GeneratorBasedBuilder):
    """The first letters of letters_in_photos; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: image uint8 (64, 64, 3), RGB; label, one of 37 letters."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(photos.SIZE, photos.SIZE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(photos.LETTERS)),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://matplotlib.org/stable/users/explain/text/fonts.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits, of the first pictures of those of letters_in_photos."""
        return {split: self._generate_examples(split, count) for split, count in SPLITS.items()}

    def _generate_examples(self, split: str, count: int):
        """Yield (number in the split, example)."""
        number = 0
        for pictures in photos.letters(split, count):
            for image, label in zip(pictures.images, pictures.labels, strict=True):
                yield number, {"image": image, "label": int(label)}
                number += 1
