"""Tests of the made_trials dataset, by TFDS' own test case."""

from pathlib import Path

import tensorflow_datasets as tfds

from . import made_trials_dataset_builder


class MadeTrialsTest(tfds.testing.DatasetBuilderTestCase):
    """Builds a part; it is made by code, so no dummy data."""

    DATASET_CLASS = made_trials_dataset_builder.Builder
    EXAMPLE_DIR = str(Path(__file__).parent)
    BUILDER_CONFIG_NAMES_TO_TEST = ["little_100"]
    SPLITS = {"train": 100, "test": 2_000}


if __name__ == "__main__":
    tfds.testing.test_main()
