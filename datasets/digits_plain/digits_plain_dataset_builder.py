"""The digits_plain dataset."""

import importlib.util
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

# By its place, not by name: the head of photos.py says why.
_spec = importlib.util.spec_from_file_location("photos", Path(__file__).parent.parent / "photos.py")
photos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(photos)


class Builder(tfds.core.GeneratorBasedBuilder):
    """scikit-learn's 1,797 handwritten digits, each once, dark on white; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: image uint8 (64, 64, 3), RGB; label 0 to 9."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(photos.SIZE, photos.SIZE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: 800, 200 and 797 pictures, of the same drawings as in digits_in_photos."""
        return {split: self._generate_examples(split) for split in photos.DIGIT_SPLITS}

    def _generate_examples(self, split: str):
        """Yield (row of the digit in `sklearn.datasets.load_digits`, example)."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        rows = photos.digit_rows(bunch.target.astype(np.int64))[split]
        # The first number sets this stream apart from those of digits_in_photos and letters_in_photos.
        random = np.random.RandomState([3, list(photos.DIGIT_SPLITS).index(split)])
        strokes = bunch.images[rows].astype(np.int64) * 255 // 16
        masks = photos.place(strokes, np.full(len(rows), 8), random, sharpest=40)
        for row, mask in zip(rows, masks, strict=True):
            image = np.repeat(255 - mask[..., None], 3, axis=-1)
            yield int(row), {"image": image, "label": int(bunch.target[row])}
