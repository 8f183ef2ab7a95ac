"""Tests of the digits_plain dataset, by TFDS' own test case."""

from pathlib import Path

import tensorflow_datasets as tfds

from . import digits_plain_dataset_builder


class DigitsPlainTest(tfds.testing.DatasetBuilderTestCase):
    """Builds the whole dataset; an installed package gives what it needs, so no dummy data."""

    DATASET_CLASS = digits_plain_dataset_builder.Builder
    EXAMPLE_DIR = str(Path(__file__).parent)
    SPLITS = {"train": 800, "validation": 200, "test": 797}


if __name__ == "__main__":
    tfds.testing.test_main()
