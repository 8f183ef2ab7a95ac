"""What the report and the model card say of classified pictures, beside what they say of every training."""

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.augment import views as augment
from runner.data.examples import Data
from runner.data.source import amount
from runner.pictures import gradcam
from runner.report import card as cards
from runner.report import page
from runner.scores import classification

from .config import Config


def question(config: Config, examples: Data) -> str:
    """What the run was to answer."""
    count = amount(config.labels_per_class, config.data)
    few = "all labelled pictures" if count is None else f"{count} labelled pictures per class"
    return (
        f"How well can {config.backbone}, started from the weights {Path(config.weights).name}, tell the "
        f"{len(examples.classes)} classes of {Path(config.data).name} apart after training on {few}, "
        f"and what does each way of using it bring?{weighed(config, examples)}"
    )


def weighed(config: Config, examples: Data) -> str:
    """What a picture counts in the loss, in words; "" where all count alike."""
    found = ["by its weight"] if "weight" in examples.manifest else []
    found += ["so that all classes count alike"] if config.class_weight == "balanced" else []
    return f" In the loss a picture counts {' and '.join(found)}." if found else ""


def sections(
    config: Config, examples: Data, predictions: pd.DataFrame, network: keras.Model, blocks: Any
) -> dict[str, Any]:
    """What `page.write` shows of this task: classes, errors, Grad-CAM maps, pictures as training sees them.

    predictions: of `network` on the test pictures. `examples.test` must be open. Each part is a function, so
    that one that fails costs no other.
    """
    classes = examples.classes
    pictures = cache(lambda: page.collect_pictures(examples, predictions))

    def overlays() -> dict[int, np.ndarray]:
        explained = predictions[predictions["id"].isin(page.explained_ids(predictions, classes))]
        return gradcam.explain(network, blocks, explained, pictures(), classes)

    return {
        "pictures": pictures,
        "augmented": lambda: augmented(config, examples),
        "predictions": predictions,
        "per_class": lambda: classification.per_class(predictions, classes, examples.manifest["group"]),
        "confusion": lambda: classification.confusion(predictions, classes),
        "overlays": overlays,
    }


def augmented(config: Config, examples: Data) -> np.ndarray:
    """One training picture of each of the first four classes and five views of it, uint8 (4, 6, s, s, 3)."""
    shown: dict[int, np.ndarray] = {}
    for element in examples.train.as_numpy_iterator():
        if len(shown) == min(4, len(examples.classes)):
            break
        shown.setdefault(int(element["label"]), element["input"])
    rows = []
    for index, picture in enumerate(shown.values()):
        views = augment.preview(picture, config.augment, 5, seed=index, flip=config.flip)
        rows.append(np.concatenate([picture[None], views]))
    return np.stack(rows)


def card(config: Config, examples: Data) -> cards.Task:
    """What the model card says of this task."""
    return cards.Task(
        title=Path(config.data).name,
        what="A classifier of pictures into",
        prepared=f"pictures are made square ({config.resize}) at {config.image_size} pixels a side"
        + weighed(config, examples).replace(" In", "; in").rstrip("."),
        takes="RGB pictures (batch, height, width, 3) of any size, pixels of 0..255, not scaled",
        gives=f"float32 logits (batch, {len(examples.classes)})",
        meant="Meant for pictures like those it was trained on. It answers one of its classes for any "
        "picture at all, also for one that shows none of them.",
        score=("accuracy", "accuracy"),
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "pictures": "support"},
        commands=(
            "predict RUN PICTURES_OR_FOLDERS --output predictions.csv",
            "shift RUN FOLDER        # is new data like the data it was trained on?",
            "export RUN --format litert onnx",
        ),
        numbers={"Macro F1": "macro_f1"},
    )
