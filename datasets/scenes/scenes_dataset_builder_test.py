"""Tests of the scenes dataset, by TFDS' own test case."""

from pathlib import Path
from unittest import mock

import tensorflow_datasets as tfds

from . import scenes_dataset_builder


class ScenesTest(tfds.testing.DatasetBuilderTestCase):
    """Builds a few pictures of each split; an installed package gives what it needs, so no dummy data."""

    DATASET_CLASS = scenes_dataset_builder.Builder
    EXAMPLE_DIR = str(Path(__file__).parent)
    SPLITS = {"train": 30, "validation": 20, "test": 10}

    def setUp(self):
        patch = mock.patch.dict(scenes_dataset_builder.drawing.SPLITS, self.SPLITS)
        patch.start()
        self.addCleanup(patch.stop)
        super().setUp()


if __name__ == "__main__":
    tfds.testing.test_main()
