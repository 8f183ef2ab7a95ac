"""Tests of the sister_tables dataset, by TFDS' own test case."""

from pathlib import Path

import tensorflow_datasets as tfds

from . import sister_tables_dataset_builder


class ClinicTest(tfds.testing.DatasetBuilderTestCase):
    """Builds the whole dataset; it is made by code, so no dummy data."""

    DATASET_CLASS = sister_tables_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["clinic"]
    EXAMPLE_DIR = str(Path(__file__).parent)
    SPLITS = {"train": 1500, "validation": 1500, "test": 4000}


class HospitalTest(ClinicTest):
    """The large table."""

    BUILDER_CONFIG_NAMES_TO_TEST = ["hospital"]
    SPLITS = {"train": 10000}


if __name__ == "__main__":
    tfds.testing.test_main()
