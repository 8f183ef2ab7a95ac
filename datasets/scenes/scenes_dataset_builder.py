"""scenes: shapes over photos with boxes and masks, as a TFDS dataset."""

import numpy as np
import tensorflow_datasets as tfds

from . import drawing


class Builder(tfds.core.GeneratorBasedBuilder):
    """One to six shapes of six kinds over crops of scikit-learn's two photos; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: image uint8 (96, 96, 3), RGB; objects, each with its box and its shape;
        segmentation_mask uint8 (96, 96, 1), 0 = background, k + 1 = shape k.
        """
        size = drawing.SIZE
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(names=list(drawing.SHAPES)),
                        }
                    ),
                    "segmentation_mask": tfds.features.LabeledImage(
                        labels=["background", *drawing.SHAPES],
                        shape=(size, size, 1),
                        encoding_format="png",
                    ),
                }
            ),
            supervised_keys=None,
            homepage="https://scikit-learn.org/stable/datasets/loading_other_datasets.html#sample-images",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: 800, 200 and 400 pictures."""
        return {split: self._generate_examples(split, count) for split, count in drawing.SPLITS.items()}

    def _generate_examples(self, split: str, count: int):
        """Yield (number in the split, example)."""
        for number in range(count):
            image, mask, labels, boxes = drawing.scene(split, number)
            x_min, y_min, x_max, y_max = (boxes.T / drawing.SIZE).astype(np.float32)
            boxes = (tfds.features.BBox(*box) for box in zip(y_min, x_min, y_max, x_max, strict=True))
            yield (
                number,
                {
                    "image": image,
                    "objects": [
                        {"bbox": box, "label": int(label)} for box, label in zip(boxes, labels, strict=True)
                    ],
                    "segmentation_mask": mask[..., None],
                },
            )
