"""Every method as something that answers episodes: what needs no training here, what is chosen on validation,
and what `train.fit` trained.
"""

import time
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import pandas as pd

from runner.data.examples import Data
from runner.errors import InputError
from runner.networks.backbones import Block
from runner.stage import Stage
from runner.training import frozen
from runner.training.fit import Fit

from . import answers, classes, episodes, method, model
from .answers import Learner
from .config import Config

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Of "logistic head", tried on validation: scikit-learn's C, of features of length 1."""
TUNING = (0.0, 0.1, 0.3, 1.0)
"""Of "fine-tuning", tried on validation: times tune_rate. 0 leaves the class means as they are."""
CHOOSE_ON = 60
"""Of how many validation episodes these are chosen by."""
NO_EPOCHS = pd.DataFrame(columns=["epoch", "stage"])
NOTHING_MOVED = pd.DataFrame(columns=["stage", "block", "to_train", "moved"])
"""The history and the ledger of what is not trained before the episodes."""


def untrained(config: Config, examples: Data) -> tuple[dict[str, Learner], dict[str, Fit]]:
    """The methods that train nothing before the episodes."""
    network, blocks = model.build(config, examples)
    network.trainable = False
    middle = model.centred(network, centre(network, examples))
    makers: dict[str, Callable[[], Learner]] = {
        "pixels": lambda: Learner(model.pixel_features(config)),
        "class means": lambda: Learner(model.features(network)),
        "cosine": lambda: Learner(model.cosine(network)),
        "centred": lambda: Learner(middle),
        "logistic head": lambda: logistic_head(config, examples, middle),
        "fine-tuning": lambda: fine_tuning(config, examples, middle, blocks),
    }
    learners, fits = {}, {}
    for name, make in makers.items():
        if name in config.methods:
            started = time.perf_counter()
            learners[name] = make()
            fits[name] = Fit(NO_EPOCHS, NOTHING_MOVED, time.perf_counter() - started)
    return learners, fits


def trained(config: Config, examples: Data, name: str, network: keras.Model, fitted: Fit) -> Learner:
    """What `train.fit` trained, as a learner. name: of the method; any other is "softmax" in some way."""
    count = fitted.trained or 0
    if name == "ProtoNet":
        return Learner(model.features(network), trained=count)
    if name in ("MAML", "first-order MAML", "ANIL"):
        inner = partial(
            method.meta_answers,
            network,
            model.moving(network, name),
            steps=config.inner_steps,
            rate=config.inner_rate,
            training=model.transductive(config),
        )
        return Learner(None, inner, count)
    return Learner(model.centred(network, centre(network, examples)), trained=count)


def centre(network: keras.Model, examples: Data) -> np.ndarray:
    """The mean of the features of all training pictures, float32 (d,)."""
    _, _, pictures = classes.arrays(examples.train)
    return Learner(model.features(network)).features(pictures).mean(axis=0)


def logistic_head(config: Config, examples: Data, network: keras.Model) -> Learner:
    """Logistic regression on centred and normalised features, its regularisation chosen on validation."""
    tried = {one: Learner(network, partial(method.logistic, strength=one)) for one in STRENGTHS}
    return tried[best(config, examples, tried)]


def fine_tuning(config: Config, examples: Data, network: keras.Model, blocks: tuple[Block, ...]) -> Learner:
    """Steps on the top blocks and a head, from the class means on; their rate chosen on validation."""
    stage = Stage("episode", train=f"top:{config.tune_top}")
    cut = frozen.cut(network, blocks, stage)
    if cut is None:
        raise InputError(
            f"tune_top={config.tune_top} leaves nothing of {config.backbone} still, so that each episode "
            f"would train all of it; give fewer than its {len(blocks)} blocks, or leave fine-tuning out of "
            "--methods."
        )
    steps = config.tune_steps
    tried = {
        times: Learner(
            cut.below, partial(method.fine_tuned, cut.above, steps=steps, rate=times * config.tune_rate)
        )
        for times in TUNING
    }
    return tried[best(config, examples, tried)]


def best(config: Config, examples: Data, tried: dict[float, Learner]) -> float:
    """Which of several is right most often in the first validation episodes."""
    arrays = classes.arrays(examples.val)
    count = min(CHOOSE_ON, config.val_episodes)
    drawn = draw(config, arrays[1], count)
    found = answers.judge(
        {str(one): learner for one, learner in tried.items()},
        arrays,
        drawn,
        (config.compare_shots,),
        config.compare_shots,
        examples.classes,
    )
    reached = {one: found[str(one)].right(config.compare_shots).mean() for one in tried}
    return max(tried, key=lambda one: reached[one])


def draw(config: Config, labels: np.ndarray, count: int) -> episodes.Episodes:
    """The episodes of a split, the same for whoever asks."""
    return episodes.draw(
        labels, config.ways, max(config.shots), config.queries, count, seed=config.machine.seed
    )
