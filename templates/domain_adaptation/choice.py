"""Which method to trust when no target picture has a label, and how far apart the domains lie.

Published tables choose methods, strengths and epochs on the accuracy of the target's test pictures, which
nobody has who needs this. What there is: labelled source pictures, and the network's answers on unlabelled
target pictures. The choice by the test labels stands beside it as "oracle", to show what the not-knowing
costs, and is never used.
"""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import scipy.special
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from runner.errors import InputError
from runner.networks import inference
from runner.pictures import reference
from runner.report import figures
from runner.scores import classification, intervals, paired
from runner.scores.two_sample import mmd_test, proxy_a_distance
from runner.training import baselines

from .config import Config
from .two_domains import Domains

SAMPLE = 1000
"""The most pictures of each domain that the domain classifier and the two-sample tests are given."""
CRITERIA = {"source_risk": -1, "infomax": 1, "weighted_risk": -1}
"""1 where the highest value is chosen, -1 where the lowest is."""


@dataclass(frozen=True)
class Seen:
    """What a network makes of some pictures: features (n, d) and logits (n, classes), and their labels (n,),
    which are -1 throughout where there are none.
    """

    features: np.ndarray
    logits: np.ndarray
    labels: np.ndarray


def look(network: keras.Model, parts: dict[str, tf.data.Dataset]) -> dict[str, Seen]:
    """Run the network over unbatched datasets, each in its order."""
    step = {"": inference.forward(reference.extractor(network, "head"))}
    found = {}
    for name, examples in parts.items():
        rows = [(*seen[""], known["label"]) for known, seen in inference.batches(step, examples, 250)]
        found[name] = Seen(*(np.concatenate(part) for part in zip(*rows, strict=True)))
    return found


def source_risk(source: Seen) -> float:
    """The error on labelled validation pictures of the source, 0..1: right where the domains hardly
    differ.
    """
    return float(np.mean(source.logits.argmax(axis=1) != source.labels))


def infomax(target: Seen) -> float:
    """H(mean_i p_i) - mean_i H(p_i) on target pictures, 0..log(classes) nats: answers that are certain, and
    spread over the classes.

    The mutual information of picture and answer: Bridle et al., "Unsupervised classifiers, mutual information
    and 'phantom targets'" (NeurIPS 1991); to choose with, Musgrave et al., "Benchmarking validation methods
    for unsupervised domain adaptation" (2022, arXiv:2208.07360). It believes certain answers that are wrong,
    and expects classes in equal numbers.
    """
    probabilities = scipy.special.softmax(target.logits.astype(np.float64), axis=1)

    def entropy(p):
        return scipy.special.entr(p).sum(axis=-1)

    return float(entropy(probabilities.mean(axis=0)) - entropy(probabilities).mean())


def weighted_risk(source_train: Seen, target_train: Seen, source: Seen, seed: int = 0) -> float:
    """The source's validation error with each picture weighted by how much it looks like the target.

    Deep embedded validation (You et al., "Towards accurate model selection in deep unsupervised domain
    adaptation", ICML 2019), algorithm 1. A domain classifier on features gives the weights
    w(x) = n_source / n_target * P(target | x) / P(source | x); it is trained on training pictures and held
    against validation pictures, which it never saw. With L = w * error and the control variate
    eta = -Cov(L, w) / Var(w), the risk is mean L + eta mean w - eta: no longer bound to 0..1.
    """
    features = np.concatenate([source_train.features, target_train.features])
    is_target = np.repeat([0, 1], [len(source_train.features), len(target_train.features)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, random_state=seed))
    classifier.fit(features, is_target)
    odds = np.exp(np.clip(classifier.decision_function(source.features.astype(np.float64)), -30, 30))
    weights = odds * len(source_train.features) / len(target_train.features)
    errors = weights * (source.logits.argmax(axis=1) != source.labels)
    variance = weights.var(ddof=1)
    eta = -np.cov(errors, weights)[0, 1] / variance if variance > 0 else 0.0
    return float(errors.mean() + eta * weights.mean() - eta)


def chosen(table: pd.DataFrame, criterion: str) -> str:
    """The method that a criterion picks from a table with a row per method; of equals the first. Where the
    criterion has no value there is nothing to choose.
    """
    table = table.dropna(subset=criterion)
    values = CRITERIA[criterion] * table[criterion].to_numpy()
    return str(table["method"].iloc[int(np.argmax(values))])


def gap(source: Seen, target: Seen, seed: int = 0) -> dict[str, float]:
    """How far the features of two domains lie apart, both of pictures that nothing was trained on.

    mmd: squared maximum mean discrepancy; mmd_yardstick: what it stays below in 95 of 100 cases without a
    difference; proxy_a_distance: 0..2; see `runner.two_sample`.
    """
    first, second = source.features[:SAMPLE], target.features[:SAMPLE]
    value, permuted, _ = mmd_test(first, second, permutations=199, seed=seed)
    return {
        "mmd": value,
        "mmd_yardstick": float(np.quantile(permuted, 0.95)),
        "proxy_a_distance": proxy_a_distance(first, second, seed),
    }


def gap_figure(source: Seen, target: Seen) -> Figure:
    """Draw the features of both domains in the plane of their two first principal components.

    The domains differ by shape and by lightness as well as by hue, for who sees hues otherwise.
    """
    figure = Figure(figsize=(6.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    parts = source.features[:SAMPLE], target.features[:SAMPLE]
    places = PCA(2, random_state=0).fit_transform(np.concatenate(parts))
    split = len(parts[0])
    for label, part, style in (
        ("source", places[:split], dict(marker="o", color=figures.COLOURS["accent"], linewidths=0)),
        ("target", places[split:], dict(marker="x", color=figures.COLOURS["second"], linewidths=1.4)),
    ):
        axes.scatter(part[:, 0], part[:, 1], s=30, alpha=0.65, label=label, **style)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(figures.COLOURS["line"])
    # Above the plot, where it covers no point.
    axes.legend(
        frameon=False,
        fontsize=14,
        markerscale=1.6,
        labelcolor=figures.COLOURS["ink"],
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=2,
    )
    return figure


def validation_parts(domains: Domains) -> dict[str, tf.data.Dataset]:
    """The pictures of both domains that nothing was trained on."""
    return {"source": domains.source.val, "target": domains.target.val}


def check(domains: Domains) -> None:
    """Raise InputError where a domain has too few validation pictures for any criterion: two are needed."""
    for name, examples in (("source", domains.source), ("target", domains.target)):
        count = int(examples.val.cardinality())
        if count < 2:
            raise InputError(
                f"Received a {name} with {count} validation picture; two are needed to choose a method by: "
                "add pictures, or raise labels_per_class or val_fraction."
            )


def compare(config: Config, domains: Domains, networks, fits) -> pd.DataFrame:
    """One row per method: what it took, and everything that can be known of it without a target label."""
    rows = []
    for name, network in networks.items():
        parts = validation_parts(domains)
        for side, examples in (("source_train", domains.source), ("target_train", domains.target)):
            parts[side] = examples.train.shuffle(10_000, seed=config.machine.seed).take(SAMPLE)
        seen = look(network, parts)
        source, target = seen["source"], seen["target"]
        risk = source_risk(source)
        rows.append(
            {
                "method": name,
                "epochs": len(fits[name].history),
                "seconds": round(fits[name].seconds, 1),
                "val_accuracy": 1 - risk,
                "source_risk": risk,
                "infomax": infomax(target),
                "weighted_risk": weighted_risk(
                    seen["source_train"], seen["target_train"], source, config.machine.seed
                ),
                **gap(source, target, config.machine.seed),
            }
        )
    return pd.DataFrame(rows)


def beside(
    config: Config, domains: Domains, unlabelled: pd.DataFrame, rivals: dict[str, keras.Model], fits
) -> tuple[pd.DataFrame, dict[str, keras.Model]]:
    """The table of `compare` with what it is compared with above it, and the networks of that.

    rivals: networks by name, none of which is for choice: logistic regression is less sure of the same
    answer than a network, so that the criteria do not compare the two. Of the trainings from scratch the best
    on the source's validation pictures is left.
    """
    step = {name: inference.forward(network) for name, network in rivals.items()}
    right = {name: [] for name in rivals}
    for known, found in inference.batches(step, domains.source.val, 250):
        for name, logits in found.items():
            right[name].extend(logits.argmax(axis=1) == known["label"])
    reached = {name: float(np.mean(one)) for name, one in right.items()}
    rivals = baselines.compared(rivals, reached)
    rows = baselines.table(config, rivals, fits, "accuracy", reached)
    table = pd.concat([rows, unlabelled.assign(pretrained=config.weights != "none")], ignore_index=True)
    return table[[*unlabelled, "pretrained", "recipe"]].fillna({"recipe": ""}) if rivals else table, rivals


def tested(
    unlabelled: pd.DataFrame, predictions: dict[str, pd.DataFrame], classes, groups: pd.Series | None = None
) -> pd.DataFrame:
    """The same rows with the accuracy on the target's test pictures, its interval, and "against_source_only":
    the difference with its 95 % interval, and "hurts" where that lies below 0. groups: which pictures belong
    together, by id; intervals draw them together.
    """
    right = {name: (table["label"] == table["prediction"]).to_numpy() for name, table in predictions.items()}
    rows = []
    for name in unlabelled["method"]:
        found = classification.metrics(predictions[name], classes, groups)
        difference = right[name].astype(float) - right["source only"]
        mean, half = difference.mean(), 1.96 * difference.std() / len(difference) ** 0.5
        whole = intervals.units(groups, predictions[name]["id"])
        if whole is not None:
            apart = paired.of_means(right["source only"], right[name], whole)
            half = (apart.high - apart.low) / 2
        verdict = "hurts" if mean + half < 0 else "helps" if mean - half > 0 else "no difference"
        low, high = found["accuracy_interval"]
        rows.append(
            {
                "test_accuracy": found["accuracy"],
                "low": low,
                "high": high,
                "against_source_only": ""
                if name == "source only"
                else f"{verdict} ({100 * mean:+.1f} ± {100 * half:.1f} points)",
            }
        )
    return pd.concat([unlabelled, pd.DataFrame(rows)], axis=1)


def oracle(comparison: pd.DataFrame) -> str:
    """The method that is best on the target's test pictures: to be printed, never to be used. What could not
    be chosen is none.
    """
    table = comparison.dropna(subset=list(CRITERIA))
    return str(table["method"].iloc[int(table["test_accuracy"].argmax())])
