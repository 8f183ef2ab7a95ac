"""The network of a finished run, written, and read from a file that may be damaged or a stranger's."""

import warnings
from pathlib import Path

import keras

from runner.errors import InputError
from runner.networks import pretrained


def load(run: Path) -> keras.Model:
    """The model.keras of a run, not compiled.

    Raises InputError for a file that is damaged, that would unpack to far more than it takes, or that was
    made of classes that are not here: Keras imports none for a file. Where another version of Keras wrote it,
    the message names both.
    """
    path = run / "model.keras"
    try:
        pretrained.check_size(path)
        with warnings.catch_warnings():  # of Keras about what it skips in a file that does not fit
            warnings.simplefilter("ignore")
            model = keras.models.load_model(path, compile=False)
        if not isinstance(model, keras.Model):
            raise ValueError(f"it holds {type(model).__name__}, and no model")
    except Exception as error:  # Keras, h5py and zipfile raise almost anything on a damaged file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        version = pretrained.other_version(path)
        raise InputError(f"{path} cannot be loaded ({reason}); give another run.{version}") from error
    return model


def without_own_loss(network: keras.Model) -> keras.Model:
    """The network, as a model of the same layers that is not compiled where its loss is not one of Keras':
    such a loss is not to be saved, for nothing else knows it.
    """
    home = getattr(getattr(network, "loss", None), "__module__", None)
    if home is None or home.split(".")[0] == "keras":
        return network
    return keras.Model(network.input, network.output, name=network.name)
