"""One pass over a split gives a prediction table per model; every number is taken from the whole table.

The numbers are scikit-learn's. Keras' own precision, recall and F1 average over batches and have no form for
class indices, so nothing here is computed batch by batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.special
import sklearn.metrics

from runner.errors import InputError
from runner.scores import intervals

if TYPE_CHECKING:  # the numbers need no TensorFlow: only `predict` loads it
    import keras
    import tensorflow as tf


def predict(
    models: dict[str, keras.Model], dataset: tf.data.Dataset, classes, batch_size: int = 64
) -> dict[str, pd.DataFrame]:
    """Run every model over the dataset, which is iterated exactly once; return a prediction table for each.

    Args:
        models: name -> model that takes images as the dataset gives them and returns logits (batch, classes).
        dataset: unbatched, finite; elements {"id": int64 scalar, "input": (h, w, 3), "label": int64 scalar}.
        classes: the class names; a label is an index into them.
        batch_size: pictures per step; the result does not depend on it beyond float32 rounding.

    Returns:
        For each model a table, one row per example in the dataset's order: `id` (int64), `label` and
        `prediction` (class names), `confidence` (the probability of the prediction, 0..1), and one column of
        probabilities (float32, softmax of the logits) per class, called "p:<class>".

    Raises:
        InputError: no models, no examples, labels outside the classes, or outputs that are no finite logits
            (batch, classes).
    """
    import tensorflow as tf

    classes = class_names(classes)
    if not models:
        raise InputError("Received no models to evaluate: give at least one, as {'name': model}.")
    batches = dataset.batch(batch_size)
    step = {name: _logits_function(model, batches.element_spec["input"]) for name, model in models.items()}
    ids, labels = [], []
    logits = {name: [] for name in models}
    for batch in batches.prefetch(tf.data.AUTOTUNE):
        ids.append(batch["id"].numpy())
        labels.append(batch["label"].numpy())
        for name in models:
            output = step[name](batch["input"]).numpy()
            _check_logits(name, output, ids[-1], classes)
            logits[name].append(output)
    if not ids:
        raise InputError("The dataset to evaluate has no examples: give the split at least one picture.")
    ids, labels = np.concatenate(ids), np.concatenate(labels)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise InputError(
            f"Received labels from {labels.min()} to {labels.max()} in the dataset to evaluate; allowed are "
            f"0 to {len(classes) - 1} ({len(classes)} classes): give those that the dataset was made with."
        )
    return {name: _table(name, ids, labels, np.concatenate(logits[name]), classes) for name in models}


def metrics(predictions: pd.DataFrame, classes, *, resamples: int = 1000, seed: int = 0) -> dict:
    """Return the numbers of one prediction table, ready for JSON; shares are 0..1.

    Macro averages run over the classes that occur as truth or as prediction, as scikit-learn's do by default.
    The intervals are 95 % percentile intervals of a bootstrap over examples (Efron 1979), which takes the
    examples to be independent. `top5_accuracy` is there only when there are more than 5 classes.

    Raises:
        InputError: an empty table, or one that names a class that `classes` lacks.
    """
    classes = class_names(classes)
    truth, predicted = codes(predictions, "label", classes), codes(predictions, "prediction", classes)
    result = {"accuracy": float(sklearn.metrics.accuracy_score(truth, predicted))}
    accuracies, macro_f1s = _bootstrap(truth, predicted, len(classes), resamples, seed)
    result["accuracy_interval"] = intervals.percentile(accuracies)
    if len(classes) > 5:
        result["top5_accuracy"] = float(
            sklearn.metrics.top_k_accuracy_score(
                truth,
                probabilities(predictions, classes),
                k=5,
                labels=np.arange(len(classes)),
            )
        )
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=0
        )
        result |= {
            f"{average}_precision": float(precision),
            f"{average}_recall": float(recall),
            f"{average}_f1": float(f1),
        }
    result["macro_f1_interval"] = intervals.percentile(macro_f1s)
    return result | {"examples": len(truth)}


def per_class(predictions: pd.DataFrame, classes) -> pd.DataFrame:
    """Return a row per class, in the order of `classes`: class, precision, recall, f1 (0..1), support.

    Support counts its examples. A class that is never predicted has precision 0; one that occurs neither as
    truth nor as prediction has NaN in all three: the column means are the macro averages of `metrics`.
    """
    classes = class_names(classes)
    truth, predicted = codes(predictions, "label", classes), codes(predictions, "prediction", classes)
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        truth, predicted, labels=np.arange(len(classes)), zero_division=0
    )
    table = pd.DataFrame(
        {"class": classes, "precision": precision, "recall": recall, "f1": f1, "support": support}
    )
    absent = ~np.isin(np.arange(len(classes)), np.concatenate([truth, predicted]))
    table.loc[absent, ["precision", "recall", "f1"]] = np.nan
    return table


def confusion(predictions: pd.DataFrame, classes) -> pd.DataFrame:
    """Return the counts (classes, classes), int64: rows are the truth, columns the prediction."""
    classes = class_names(classes)
    counts = sklearn.metrics.confusion_matrix(
        codes(predictions, "label", classes),
        codes(predictions, "prediction", classes),
        labels=np.arange(len(classes)),
    )
    return pd.DataFrame(counts, pd.Index(classes, name="truth"), pd.Index(classes, name="prediction"))


def class_names(classes) -> list[str]:
    """Return the class names as a list of str; raise InputError for none, or for one that comes twice."""
    names = [str(name) for name in classes]
    if len(set(names)) != len(names) or not names:
        raise InputError(
            f"Received {len(names)} class names, {len(set(names))} of them different: each needs its own."
        )
    return names


def codes(predictions: pd.DataFrame, column: str, classes: list[str]) -> np.ndarray:
    """Return "label" or "prediction" of a prediction table as indices into `classes`, (examples,).

    Raises:
        InputError: an empty table, or one that names a class that `classes` lacks.
    """
    if len(predictions) == 0:
        raise InputError("Received a prediction table without rows: predict at least one example.")
    # A table read back from CSV has numbers where classes are called "0", "1", ...
    found = pd.Index(classes).get_indexer(predictions[column].astype(str))
    if (found < 0).any():
        unknown = predictions[column].iloc[int(np.argmax(found < 0))]
        raise InputError(
            f"The prediction table has {column} {unknown!r}, which is none of the {len(classes)} classes "
            f"({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}): give those it was made with."
        )
    return found


def probabilities(predictions: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """Return the columns "p:<class>" of a prediction table in the order of `classes`, (examples, classes).

    Raises:
        InputError: a class without such a column.
    """
    columns = [f"p:{name}" for name in classes]
    lacking = [name for name in columns if name not in predictions]
    if lacking:
        raise InputError(
            f"The prediction table has no column {lacking[0]!r}: give the classes that it was made with."
        )
    return predictions[columns].to_numpy(np.float64)


def _logits_function(model, images):
    """Compile the forward pass once, for any number of pictures: the short last batch retraces nothing."""
    import tensorflow as tf

    # Not `predict_on_batch`: with several replicas that runs each of them on the whole batch. Concrete, or
    # TensorFlow counts the models of a comparison as one function that is traced over and over, and warns.
    logits = tf.function(lambda x: tf.cast(model(x, training=False), tf.float32), input_signature=[images])
    return logits.get_concrete_function()


def _check_logits(name, output, ids, classes):
    if output.shape != (len(ids), len(classes)):
        raise InputError(
            f"Model '{name}' gives outputs of shape {output.shape} for {len(ids)} pictures; needed is "
            f"({len(ids)}, {len(classes)}), one logit per class: end it with Dense({len(classes)})."
        )
    broken = ~np.isfinite(output).all(axis=1)
    if broken.any():
        raise InputError(
            f"Model '{name}' gives NaN or infinite logits for {broken.sum()} of {len(ids)} pictures (the "
            f"first has id {ids[broken][0]}): its training diverged; train it with a lower learning rate."
        )


def _table(name, ids, labels, logits, classes):
    logits = logits.astype(np.float64)
    if len(classes) > 1 and logits.min() >= 0 and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        # A second softmax would leave the predictions alone and silently flatten every confidence.
        raise InputError(
            f"Model '{name}' gives probabilities (every row sums to 1) and logits are needed: "
            "take the softmax off its last layer."
        )
    probabilities = scipy.special.softmax(logits, axis=1)
    predicted = logits.argmax(axis=1)
    names = np.array(classes, dtype=object)
    table = pd.DataFrame(
        {
            "id": ids.astype(np.int64),
            "label": names[labels],
            "prediction": names[predicted],
            "confidence": probabilities.max(axis=1).astype(np.float32),
        }
    )
    columns = pd.DataFrame(probabilities.astype(np.float32), columns=[f"p:{one}" for one in classes])
    return pd.concat([table, columns], axis=1)


def _bootstrap(truth, predicted, number_of_classes, resamples, seed):
    """Return accuracy and macro F1, (resamples,) each, of resamples of the examples with replacement.

    Only the cell of the confusion matrix that an example falls into matters, and the cell counts of a
    resample of n examples are multinomial(n, counts / n): draw those instead of examples. Macro F1 is the
    mean of 2 TP / (truth + predicted) over the classes that occur in the resample, as in scikit-learn.
    """
    examples = len(truth)
    cells, counts = np.unique(truth.astype(np.int64) * number_of_classes + predicted, return_counts=True)
    rows, columns = np.divmod(cells, number_of_classes)
    ones, positions, shape = np.ones(len(cells)), np.arange(len(cells)), (len(cells), number_of_classes)
    hit = scipy.sparse.csr_array((ones * (rows == columns), (positions, rows)), shape=shape)
    occurs = scipy.sparse.csr_array((ones, (positions, rows)), shape=shape)
    occurs = occurs + scipy.sparse.csr_array((ones, (positions, columns)), shape=shape)
    random = np.random.default_rng(seed)
    accuracies, macro_f1s = [], []
    chunk = max(1, 4_000_000 // len(cells))  # 32 MB of counts at a time
    for start in range(0, resamples, chunk):
        drawn = random.multinomial(examples, counts / examples, size=min(chunk, resamples - start)).astype(
            np.float64
        )
        hits, occurrences = drawn @ hit, drawn @ occurs
        accuracies.append(hits.sum(axis=1) / examples)
        f1 = 2 * hits / np.maximum(occurrences, 1)
        macro_f1s.append(f1.sum(axis=1) / (occurrences > 0).sum(axis=1))
    return np.concatenate(accuracies), np.concatenate(macro_f1s)
