"""How much a frozen backbone knows: logistic regression on its pooled features, over many splits.

    python -m benchmarks.linear_probe --seeds 16 --data FOLDER --backbone MobileNetV2-0.35 --weights FILE ...

Takes the template's flags and makes the template's splits: the training pictures train, the test pictures
judge, nothing is augmented. The spread over the seeds says how much a figure from one split, or the mean of
three, can be trusted. The regression is scikit-learn's on the features as they are, with a fixed C, so that
nothing is chosen on the test pictures.
"""

import argparse

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

from runner import fields, flags
from runner.networks import backbones
from templates.image_classification import train
from templates.image_classification.config import Config


def features(pooled: keras.Model, split) -> tuple[np.ndarray, np.ndarray]:
    """float32 (examples, channels) features and int64 (examples,) labels of one split of a `Data`."""
    examples = list(split.as_numpy_iterator())
    images = np.stack([example["input"] for example in examples])
    return pooled.predict(images, verbose=0), np.array([example["label"] for example in examples])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--c", type=float, default=0.01, help="inverse strength of the L2 penalty")
    arguments, rest = parser.parse_known_args()
    config = flags.parse(Config, rest)
    backbone = backbones.build(config.backbone, config.image_size, config.weights)
    pooled = keras.Model(backbone.input, keras.layers.GlobalAveragePooling2D()(backbone.output))
    scores = []
    for seed in range(arguments.seeds):
        examples = train.load(fields.replace(config, seed=seed))
        regression = LogisticRegression(C=arguments.c, max_iter=2000)
        regression.fit(*features(pooled, examples.train))
        scores.append(regression.score(*features(pooled, examples.test.open(None, "benchmark"))))
        print(f"seed {seed}: {scores[-1]:.3f}", flush=True)
    first = f"{np.mean(scores[:3]):.3f} over the first 3 seeds, " if len(scores) > 3 else ""
    print(
        f"test accuracy {first}{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f} over {len(scores)} seeds"
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
