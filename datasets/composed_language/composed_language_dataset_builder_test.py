"""Tests of the composed_language dataset, by TFDS' own test case."""

from pathlib import Path

import tensorflow_datasets as tfds

from . import composed_language_dataset_builder


class ComposedLanguageTest(tfds.testing.DatasetBuilderTestCase):
    """Builds the whole dataset; it is composed by code, so no dummy data."""

    DATASET_CLASS = composed_language_dataset_builder.Builder
    EXAMPLE_DIR = str(Path(__file__).parent)
    SPLITS = {"train": 1500, "validation": 200, "test": 400}


if __name__ == "__main__":
    tfds.testing.test_main()
