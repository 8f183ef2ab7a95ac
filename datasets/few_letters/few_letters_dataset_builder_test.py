"""Tests of the few_letters dataset, by TFDS' own test case."""

from pathlib import Path

import tensorflow_datasets as tfds

from . import few_letters_dataset_builder


class FewLettersTest(tfds.testing.DatasetBuilderTestCase):
    """Builds the whole dataset; an installed package gives what it needs, so no dummy data."""

    DATASET_CLASS = few_letters_dataset_builder.Builder
    EXAMPLE_DIR = str(Path(__file__).parent)
    SPLITS = {"train": 4_000, "validation": 2_000}


if __name__ == "__main__":
    tfds.testing.test_main()
