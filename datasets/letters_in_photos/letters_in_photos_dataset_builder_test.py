"""Tests of the letters_in_photos dataset, by TFDS' own test case."""

from pathlib import Path
from unittest import mock

import tensorflow_datasets as tfds

from . import letters_in_photos_dataset_builder


class LettersInPhotosTest(tfds.testing.DatasetBuilderTestCase):
    """Builds a few pictures of each split; installed packages give what they need, so no dummy data."""

    DATASET_CLASS = letters_in_photos_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["60k"]
    EXAMPLE_DIR = str(Path(__file__).parent)
    SPLITS = {"train": 30, "validation": 20, "test": 10}

    def setUp(self):
        config = letters_in_photos_dataset_builder.Builder.BUILDER_CONFIGS[0]
        for patch in (
            mock.patch.dict(letters_in_photos_dataset_builder.photos.LETTER_SPLITS, self.SPLITS),
            mock.patch.object(config, "train", self.SPLITS["train"]),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        super().setUp()


if __name__ == "__main__":
    tfds.testing.test_main()
