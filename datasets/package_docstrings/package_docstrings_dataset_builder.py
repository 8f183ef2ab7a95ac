"""package_docstrings: the prose of the docstrings of an installed package, as a TFDS dataset."""

from importlib import metadata

import tensorflow_datasets as tfds

from . import reading

PACKAGE = "matplotlib"


class Builder(tfds.core.GeneratorBasedBuilder):
    """Docstrings of matplotlib, as it is installed; nothing is downloaded."""

    # Of another release of the package another folder, so that nothing old is taken for it.
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name=f"{PACKAGE}_{metadata.version(PACKAGE).replace('.', '_')}",
            description=f"{PACKAGE} {metadata.version(PACKAGE)}",
        )
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the features: text, the prose of one docstring."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()})
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        """Return the splits: of ten modules six are for training, one for validation, three for the test."""
        return {split: self._generate_examples(split) for split in reading.SPLITS}

    def _generate_examples(self, split: str):
        """Yield (number in the split, example); each docstring once."""
        for number, text in enumerate(reading.of_split(PACKAGE, split)):
            yield number, {"text": text}
