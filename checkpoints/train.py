"""Train a small source backbone on letters_in_photos, from scratch, and write its weights and its card.

    python -m checkpoints.train

made `checkpoints/letters_in_photos/`. The settings were chosen by how well the frozen features carry over to
the validation split of digits_in_photos; its test split was never looked at.
"""

import hashlib
import importlib.util
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from runner.errors import InputError
from runner.networks import backbones

ROOT = Path(__file__).resolve().parent.parent

_spec = importlib.util.spec_from_file_location("photos", ROOT / "datasets" / "photos.py")
photos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(photos)

LICENCE = "Apache-2.0"


def main(
    backbone: str = "MobileNet-0.25",
    pictures: int = 60_000,
    warm_up_pictures: int = 20_000,
    epochs: int = 12,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    out: Path = ROOT / "checkpoints" / "letters_in_photos",
) -> None:
    """Train on letters, measure on letters and digits, write the weights, `card.json` and `README.md`.

    Args:
        backbone: a keras.applications name with BatchNorm, such as MobileNet-0.25.
        pictures: training pictures.
        warm_up_pictures: the bare strokes of the first so many are shown twice before the pictures.
        epochs: passes over the pictures.
        batch_size: pictures per step.
        learning_rate: of Adam at its highest; it falls to 0 along a cosine.
        seed: of the weights, the order and the augmentation.
        out: the folder to write.

    Raises:
        InputError: for numbers of pictures that give no batch, and for an unknown backbone.
    """
    if not 1 <= batch_size <= warm_up_pictures <= pictures or epochs < 1:
        raise InputError(
            f"Received batch_size={batch_size}, warm_up_pictures={warm_up_pictures}, pictures={pictures}, "
            f"epochs={epochs}; allowed is 1 <= batch_size <= warm_up_pictures <= pictures, and 1 epoch up."
        )
    began = time.time()
    keras.utils.set_random_seed(seed)
    train = collect(photos.letters("train", pictures))
    body = backbones.build(backbone, photos.SIZE, "none")
    features = keras.layers.GlobalAveragePooling2D()(body.output)
    model = keras.Model(body.input, keras.layers.Dense(len(photos.LETTERS), dtype="float32")(features))
    pooled = keras.Model(body.input, features)
    prepare(body)
    keras.layers.BatchNormalization.call = fused_call  # for this process, whose only work this is

    steps = 2 * (warm_up_pictures // batch_size) + epochs * (pictures // batch_size)
    rise = min(100, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=learning_rate, warmup_steps=rise
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"], jit_compile=False)

    # Strokes first, without a photo beneath, then in all colours: on pictures alone the loss stays on a
    # plateau for thousands of steps.
    strokes, labels = train["masks"][:warm_up_pictures, ..., None], train["labels"][:warm_up_pictures]
    strokes = np.repeat(strokes, 3, axis=-1)
    model.fit(batches(strokes, labels, batch_size, seed, augmented=False), verbose=2)
    model.fit(batches(strokes, labels, batch_size, seed), verbose=2)
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print("digits:", probe(pooled), flush=True)
    )
    model.fit(
        batches(train["images"], train["labels"], batch_size, seed),
        epochs=epochs,
        verbose=2,
        callbacks=[watch],
    )

    out.mkdir(parents=True, exist_ok=True)
    weights = out / "backbone.weights.h5"
    save(body, backbone, weights)
    card = {
        "backbone": backbones.canonical(backbone),
        "image_size": photos.SIZE,
        "classes": list(photos.LETTERS),
        "source": "datasets/letters_in_photos: Matplotlib's fonts over crops of scikit-learn's two photos",
        **accuracies(model),
        "digits_validation_probe": probe(pooled),
        "pictures": pictures,
        "warm_up_pictures": warm_up_pictures,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "learning_rates": {"head": 1e-2, "backbone": 3e-3},  # of a training from here on, see docs/stages.md
        "seed": seed,
        "parameters": body.count_params(),
        "minutes": round((time.time() - began) / 60, 1),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "command": "python -m checkpoints.train",
        "licence": LICENCE,
        "versions": {"python": platform.python_version()}
        | {
            name: version(name)
            for name in ("tensorflow", "keras", "numpy", "scikit-learn", "matplotlib", "fonttools")
        },
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(readme(card, weights.stat().st_size), encoding="utf-8")
    print(json.dumps({key: value for key, value in card.items() if key != "classes"}, indent=2))


def collect(chunks) -> dict[str, np.ndarray]:
    """Join the chunks of a split from photos.py: images, labels and masks."""
    chunks = list(chunks)
    return {
        name: np.concatenate([getattr(chunk, name) for chunk in chunks])
        for name in ("images", "labels", "masks")
    }


def batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int, augmented: bool = True
) -> tf.data.Dataset:
    """Return shuffled batches (uint8 images, int64 labels), different in each epoch, the same in each run."""
    with tf.device("cpu"):
        images, labels = tf.constant(images), tf.constant(labels)
    order = (
        tf.data.Dataset.range(len(images))
        .shuffle(len(images), seed=seed)
        .batch(batch_size, drop_remainder=True)
    )
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)

    def batch(rows: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = tf.gather(images, rows)
        return augment(chosen, key) if augmented else chosen, tf.gather(labels, rows)

    return tf.data.Dataset.zip(order, seeds).map(batch, num_parallel_calls=2).prefetch(2)


def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shift a batch, invert half of it, change contrast and colour: uint8 (batch, size, size, 3) in and out.

    Shape, size, place and sharpness already vary in the pictures; this varies what is cheap. The shift is one
    per batch.
    """
    n, size, reach = tf.shape(images)[0], images.shape[1], 5
    shift = tf.random.stateless_uniform([2], seed, 0, 2 * reach + 1, tf.int32)
    images = tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], "REFLECT")
    images = tf.cast(images[:, shift[0] : shift[0] + size, shift[1] : shift[1] + size], tf.float32)
    chance = tf.random.stateless_uniform([5, n, 1, 1, 1], seed + 1)
    contrast = (0.7 + 0.5 * chance[0]) * tf.where(chance[1] < 0.5, 1.0, -1.0)
    colour = 50.0 * (tf.concat(tf.unstack(chance[2:]), axis=-1) - 0.5)
    return tf.cast(tf.clip_by_value((images - 128.0) * contrast + 128.0 + colour, 0, 255), tf.uint8)


def prepare(body: keras.Model) -> None:
    """Give a fresh backbone a start from which it learns within a few hundred steps, and a faster BatchNorm.

    A network of this depth without shortcuts, started at random, mixes its input beyond recognition: after
    300 steps the loss on bare strokes had hardly moved. So layers that can pass their input on begin by doing
    that, with a little noise: each depthwise kernel takes its centre, each pointwise kernel of as many
    channels out as in is the identity. (The delta-orthogonal start of Xiao et al. 2018, arXiv:1806.05393,
    serves the same purpose.)
    """
    random = np.random.RandomState(0)
    for layer in body.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = 0.15 * random.standard_normal(layer.kernel.shape)
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] += 1
            layer.kernel.assign(kernel)
        elif isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape[:2] == (1, 1):
            channels, filters = layer.kernel.shape[2:]
            if channels == filters:
                noise = random.standard_normal((channels, filters)) * 0.3 / np.sqrt(channels)
                layer.kernel.assign((np.eye(channels) + noise)[None, None])
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.98  # of some thousand steps; MobileNetV2's own 0.999 would lag behind


plain_call = keras.layers.BatchNormalization.call


def fused_call(layer, inputs, training=None, mask=None):
    """Train BatchNorm with TensorFlow's fused kernel: the same mathematics in one pass.

    On a CPU Keras' own, which takes the moments in passes of their own, makes a step of MobileNet 1.6 times
    as long.
    """
    if not (training and layer.trainable):
        return plain_call(layer, inputs, training=training, mask=mask)
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, layer.gamma.value, layer.beta.value, epsilon=layer.epsilon, is_training=True
    )
    for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + now * (1 - layer.momentum))
    return outputs


def probe(pooled: keras.Model, labels_per_class: int = 20, seeds: int = 8) -> dict[str, float]:
    """Return the validation accuracy of logistic regressions on the frozen features of a few digits."""
    train, validation = collect(photos.digits("train")), collect(photos.digits("validation"))
    train_features, validation_features = (
        pooled.predict(part["images"], batch_size=200, verbose=0) for part in (train, validation)
    )
    scores = []
    for seed in range(seeds):
        random = np.random.RandomState(seed)
        rows = np.concatenate(
            [
                random.permutation(np.flatnonzero(train["labels"] == digit))[:labels_per_class]
                for digit in range(10)
            ]
        )
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500))
        regression.fit(train_features[rows], train["labels"][rows])
        scores.append(regression.score(validation_features, validation["labels"]))
    return {
        "labels_per_class": labels_per_class,
        "seeds": seeds,
        "mean": round(float(np.mean(scores)), 4),
        "sd": round(float(np.std(scores)), 4),
    }


def accuracies(model: keras.Model) -> dict[str, float]:
    """Return the accuracy on the letters' test split, in fonts that training showed and in fonts that it did
    not."""
    chunks = list(photos.letters("test"))
    correct = np.concatenate(
        [model.predict(chunk.images, verbose=0).argmax(axis=1) == chunk.labels for chunk in chunks]
    )
    unseen = np.isin(np.concatenate([chunk.sources for chunk in chunks]), photos.UNSEEN_FONTS)
    return {
        "accuracy_seen_fonts": round(float(correct[~unseen].mean()), 4),
        "accuracy_unseen_fonts": round(float(correct[unseen].mean()), 4),
    }


def save(body: keras.Model, backbone: str, path: Path) -> None:
    """Write the weights in the form of keras.applications' own model without a top, which `backbones.build`
    reads."""
    family, width = backbones.find(backbone)
    arguments = {"alpha": width} if family.has_width else {}
    shape = (photos.SIZE, photos.SIZE, 3)
    plain = getattr(keras.applications, family.name)(
        include_top=False, weights=None, input_shape=shape, **arguments
    )
    plain.set_weights(body.get_weights())
    plain.save_weights(path)


def readme(card: dict, size: int) -> str:
    """Return the card for people, in Markdown."""
    probed = card["digits_validation_probe"]
    name, classes = card["backbone"], len(card["classes"])
    return f"""# letters_in_photos

A {name} ({card["parameters"]:,} parameters, {size / 1e6:.1f} MB) that reads {classes} letters at
{card["image_size"]} px: the source backbone of the templates that must run without a download.
Use it by name: `weights="letters_in_photos"` with `backbone="{name}"`.

| measured on | accuracy |
| --- | --- |
| letters, test split, fonts seen in training | {card["accuracy_seen_fonts"]:.1%} |
| letters, test split, fonts never seen | {card["accuracy_unseen_fonts"]:.1%} |
| digits_in_photos, validation split, logistic regression on frozen, pooled features | \
{probed["mean"]:.1%} ± {probed["sd"]:.1%} |

The last line: {probed["labels_per_class"]} labels per class, mean and standard deviation of
{probed["seeds"]} draws.

- Data: `datasets/letters_in_photos`, {card["pictures"]:,} training pictures: letters of Matplotlib's fonts,
  cases that look alike merged as in EMNIST, over crops of scikit-learn's two photos. No digit, nothing
  handwritten.
- Training: from scratch; two passes over the bare strokes of {card["warm_up_pictures"]:,} letters, then
  {card["epochs"]} epochs of pictures; Adam at {card["learning_rate"]:g} with a cosine to 0, batches of
  {card["batch_size"]}; shifts, inversion, contrast and colour as augmentation. {card["minutes"]:g} minutes on
  {card["machine"]}.
- Made by `{card["command"]}`. The pictures are the same on every machine; the weights come out a little
  different on another processor.
- The settings were chosen on the validation split of digits_in_photos; its test split was not used.
- Input: raw RGB, 0 to 255 (`runner.networks.backbones.build` scales it); without the runner: `x / 127.5 - 1`.
- Licence: {card["licence"]}.
- Not for photos of things: it has only ever seen letters. Take ImageNet weights for those.

All figures, the versions and the SHA-256 of the weights: `card.json`.
"""


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
