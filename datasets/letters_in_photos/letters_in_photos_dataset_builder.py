"""letters_in_photos: letters of many fonts over photos, as a TFDS dataset."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import tensorflow_datasets as tfds

# By its place, not by name: the head of photos.py says why.
_spec = importlib.util.spec_from_file_location("photos", Path(__file__).parent.parent / "photos.py")
photos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(photos)


@dataclass
class Config(tfds.core.BuilderConfig):
    """How many training pictures to make; a larger configuration only appends to a smaller one."""

    train: int = photos.LETTER_SPLITS["train"]


class Builder(tfds.core.GeneratorBasedBuilder):
    """26 letters in 2 cases and 21 fonts over crops of scikit-learn's two photos; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        Config(name="60k", description="60,000 training pictures."),
        Config(
            name="240k",
            description="240,000 training pictures, of which the first 60,000 are those of 60k.",
            train=240_000,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: image uint8 (64, 64, 3), RGB; label, one of 37 letters; font, a name."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(photos.SIZE, photos.SIZE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(photos.LETTERS)),
                    "font": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://matplotlib.org/stable/users/explain/text/fonts.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits; half of test is in fonts that train and validation never show."""
        counts = {**photos.LETTER_SPLITS, "train": self.builder_config.train}
        return {split: self._generate_examples(split, count) for split, count in counts.items()}

    def _generate_examples(self, split: str, count: int):
        """Yield (number in the split, example)."""
        number = 0
        for pictures in photos.letters(split, count):
            for image, label, font in zip(pictures.images, pictures.labels, pictures.sources, strict=True):
                yield number, {"image": image, "label": int(label), "font": str(font)}
                number += 1
