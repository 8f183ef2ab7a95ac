"""Images per second of each augmentation strength, against a cast and against other libraries' layers.

    python -m benchmarks.augment [--image-size 224] [--batch-size 32] [--batches 24] [--rounds 5]

Every row runs in a parallel `tf.data` map over the same batch in memory, in turn within each round, so that
a busy machine slows all rows alike; the best round counts. "to cast" is the time per image over that of a
bare cast to float32. The equivalents do what "medium" does, each part as its own layer; `tf.image` has no
rotation and no shear and does less. KerasCV rows appear when it is installed. The rows with masks and boxes
take the image along, 20 boxes each.
"""

import argparse
import importlib.util
import math
import platform
import time

import keras
import numpy as np
import tensorflow as tf

from runner.augment import matrices
from runner.augment import views as augment


def keras_layers(size):
    """The geometric and colour magnitudes of "medium" as one preprocessing layer after another."""
    magnitudes, layers = matrices.MAGNITUDES["medium"], keras.layers
    chain = [
        layers.RandomFlip("horizontal"),
        layers.RandomZoom((-(1 - magnitudes.smallest_crop), magnitudes.largest_crop - 1)),
        layers.RandomRotation(magnitudes.rotation / 360),
        layers.RandomShear(math.tan(math.radians(magnitudes.shear)), 0.0),
        layers.RandomTranslation(magnitudes.shift, magnitudes.shift),
        layers.RandomBrightness(magnitudes.brightness, value_range=(0, 255)),
        layers.RandomContrast(magnitudes.contrast, value_range=(0, 255)),
        layers.RandomSaturation((0.5 - magnitudes.saturation / 2, 0.5 + magnitudes.saturation / 2)),
        layers.RandomHue(magnitudes.hue / 180, value_range=(0, 255)),
    ]
    return one_after_another(chain)


def keras_cv_layers(size):
    """The same from KerasCV."""
    import keras_cv

    magnitudes, layers = matrices.MAGNITUDES["medium"], keras_cv.layers
    chain = [
        layers.RandomFlip("horizontal"),
        layers.RandomZoom((-(1 - magnitudes.smallest_crop), magnitudes.largest_crop - 1)),
        layers.RandomRotation(magnitudes.rotation / 360),
        layers.RandomShear(x_factor=math.tan(math.radians(magnitudes.shear))),
        layers.RandomTranslation(magnitudes.shift, magnitudes.shift),
        layers.RandomColorJitter(
            (0, 255),
            magnitudes.brightness,
            magnitudes.contrast,
            magnitudes.saturation / 2,
            magnitudes.hue / 180,
        ),
    ]
    return one_after_another(chain)


def one_after_another(chain):
    def augmented(images):
        images = tf.cast(images, tf.float32)
        for layer in chain:
            images = layer(images, training=True)
        return images

    return augmented


def tf_image(size):
    """`tf.image`, image by image: it has crops, flips and colour, but no rotation or shear: it does less."""
    magnitudes = matrices.MAGNITUDES["medium"]
    crop = round(size * math.sqrt(magnitudes.smallest_crop))

    def single(image):
        image = tf.image.random_crop(tf.image.random_flip_left_right(image), (crop, crop, 3))
        image = tf.image.resize(image, (size, size)) / 255
        image = tf.image.random_brightness(image, magnitudes.brightness)
        image = tf.image.random_contrast(image, 1 - magnitudes.contrast, 1 + magnitudes.contrast)
        image = tf.image.random_saturation(image, 1 - magnitudes.saturation, 1 + magnitudes.saturation)
        return tf.image.random_hue(image, magnitudes.hue / 360)

    return lambda images: tf.map_fn(single, images, fn_output_signature=tf.float32)


def ours(strength, along=None, **mixing):
    """along: what goes with the image, a dict such as {"mask": masks}."""

    def pipeline(batches):
        if along:
            batches = batches.map(lambda element: {"input": element["input"], **along})
        return augment.dataset(batches, strength, seed=0, flip=True, **mixing)

    return pipeline


def shapes(name, count, size):
    """Masks of 20 classes, or 20 boxes with their classes, for a batch of images."""
    random = np.random.default_rng(1)
    if name == "mask":
        return {"mask": tf.constant(random.integers(0, 20, (count, size, size), dtype="uint8"))}
    corners = size * random.uniform(0, 0.7, (count, 20, 2))
    sides = size * random.uniform(0.05, 0.3, (count, 20, 2))
    boxes = np.concatenate([corners, corners + sides], axis=2)
    classes = random.integers(0, 20, (count, 20), dtype="int32")
    return {"boxes": tf.constant(boxes, tf.float32), "classes": tf.constant(classes)}


def mapped(function):
    def pipeline(batches):
        images = batches.map(lambda element: element["input"])
        return images.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    return pipeline


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=24, help="batches a round; slow rows run a sixth")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size, count = options.image_size, options.batch_size
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype="uint8")
    element = {"input": images, "label": np.eye(count, dtype="float32")}
    few = max(1, options.batches // 6)

    rows = {"cast to float32": (mapped(lambda images: tf.cast(images, tf.float32)), options.batches)}
    for strength in augment.STRENGTHS[1:]:
        rows[strength] = (ours(strength), options.batches)
    rows["medium + MixUp"] = (ours("medium", mixup=0.2), options.batches)
    rows["medium + CutMix"] = (ours("medium", cutmix=1.0), options.batches)
    rows["medium + masks"] = (ours("medium", shapes("mask", count, size)), options.batches)
    rows["medium + boxes"] = (ours("medium", shapes("boxes", count, size)), options.batches)
    rows["tf.image, no rotation"] = (mapped(tf_image(size)), few)
    rows["keras.layers"] = (mapped(keras_layers(size)), few)
    if importlib.util.find_spec("keras_cv"):
        rows["keras_cv.layers"] = (mapped(keras_cv_layers(size)), few)

    pipelines = {}
    for name, (pipeline, batches) in rows.items():
        pipelines[name] = pipeline(tf.data.Dataset.from_tensors(element).repeat(batches))
        for _ in pipelines[name].take(1):  # traces and compiles
            pass
    seconds = {name: [] for name in rows}
    for _ in range(options.rounds):
        for name, (_, batches) in rows.items():
            start = time.perf_counter()
            for _ in pipelines[name]:
                pass
            seconds[name].append((time.perf_counter() - start) / (batches * count))

    best = {name: min(times) for name, times in seconds.items()}
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    print(f"{size} px, batch {count}, {versions}, {platform.machine()}, ", end="")
    print(f"{len(tf.config.list_physical_devices('GPU'))} GPU, best of {options.rounds} rounds\n")
    print("| augmentation | images/s | median | to cast | medium is faster by |")
    print("| --- | --- | --- | --- | --- |")
    for name, time_per_image in best.items():
        rate, middle = 1 / time_per_image, 1 / float(np.median(seconds[name]))
        to_cast = time_per_image / best["cast to float32"]
        faster = time_per_image / best["medium"]
        print(f"| {name} | {rate:,.0f} | {middle:,.0f} | {to_cast:.1f} | {faster:.1f} |")


if __name__ == "__main__":
    main()
