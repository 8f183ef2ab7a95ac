"""A prediction table per model, and every number that is taken from the whole of it.

The numbers are scikit-learn's. Keras' own precision, recall and F1 average over batches and have no form for
class indices, so nothing here is computed batch by batch. `runner.networks.inference.outputs` gives what
`tables` takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.special
import sklearn.metrics

from runner.errors import InputError
from runner.scores import intervals


def tables(
    known: Mapping[str, np.ndarray], logits: Mapping[str, np.ndarray], classes: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return a prediction table for each model.

    Args:
        known: "id" and "label", int64 (examples,) each, a label an index into `classes`.
        logits: name -> float (examples, classes), what the model gives for these examples.
        classes: the class names.

    Returns:
        For each model a table, a row per example in the order given: `id` (int64), `label` and `prediction`
        (Categoricals whose categories are the classes), `confidence` (the probability of the prediction,
        0..1), and one column of probabilities (float32, softmax of the logits) per class, called "p:<class>".

    Raises:
        InputError: no models, no examples, labels outside the classes, or outputs that are no finite logits
            (examples, classes).
    """
    classes = class_names(classes)
    if not logits:
        raise InputError("Received no models to evaluate: give at least one, as {'name': model}.")
    ids, labels = (np.asarray(known[name]) for name in ("id", "label"))
    if not len(ids):
        raise InputError("The dataset to evaluate has no examples: give the split at least one.")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise InputError(
            f"Received labels from {labels.min()} to {labels.max()} in the dataset to evaluate; allowed are "
            f"0 to {len(classes) - 1} ({len(classes)} classes): give those that the dataset was made with."
        )
    for name, output in logits.items():
        _check_logits(name, output, ids, classes)
    return {name: _table(name, ids, labels, output, classes) for name, output in logits.items()}


def metrics(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Return the numbers of one prediction table, ready for JSON; shares are 0..1.

    Macro averages run over the classes that occur as truth or as prediction, as scikit-learn's do by default.
    The intervals are 95 % percentile intervals of a bootstrap (Efron 1979) over examples, or over the groups
    of examples that `groups` names ("" for none, indexed by id), which are not independent. `top5_accuracy`
    is there only when there are more than 5 classes.

    Raises:
        InputError: an empty table, or one that names a class that `classes` lacks.
    """
    classes = class_names(classes)
    truth, predicted = truth_and_prediction(predictions, classes)
    result: dict[str, Any] = {"accuracy": float(sklearn.metrics.accuracy_score(truth, predicted))}
    whole = None if groups is None else intervals.units(groups, predictions["id"])
    accuracies, macro_f1s = _bootstrap(truth, predicted, len(classes), resamples, seed, whole)
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


def per_class(
    predictions: pd.DataFrame, classes: Sequence[str], groups: pd.Series | None = None
) -> pd.DataFrame:
    """Return a row per class, in the order of `classes`: class, precision, recall, recall_low, recall_high,
    f1 (0..1), support.

    Support counts its examples. A class that is never predicted has precision 0; one that occurs neither as
    truth nor as prediction has NaN in all three: the column means are the macro averages of `metrics`. The
    95 % interval of recall is `intervals.share`'s, which draws together what `groups` says belongs together
    ("" for none, indexed by id); NaN for a class without examples.
    """
    classes = class_names(classes)
    truth, predicted = truth_and_prediction(predictions, classes)
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        truth, predicted, labels=np.arange(len(classes)), zero_division=0
    )
    table = pd.DataFrame(
        {"class": classes, "precision": precision, "recall": recall, "f1": f1, "support": support}
    )
    together = None if groups is None else intervals.units(groups, predictions["id"])
    ends = []
    for number in range(len(classes)):
        rows = np.flatnonzero(truth == number)
        of_class = None if together is None else together[rows]
        ends.append(intervals.share(predicted[rows] == number, of_class) if len(rows) else (np.nan, np.nan))
    table.insert(3, "recall_low", [low for low, _ in ends])
    table.insert(4, "recall_high", [high for _, high in ends])
    absent = ~np.isin(np.arange(len(classes)), np.concatenate([truth, predicted]))
    table.loc[absent, ["precision", "recall", "f1"]] = np.nan
    return table


def confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the counts (classes, classes), int64: rows are the truth, columns the prediction."""
    classes = class_names(classes)
    counts = sklearn.metrics.confusion_matrix(
        *truth_and_prediction(predictions, classes), labels=np.arange(len(classes))
    )
    return pd.DataFrame(counts, pd.Index(classes, name="truth"), pd.Index(classes, name="prediction"))


def class_names(classes: Sequence[str]) -> list[str]:
    """Return the class names as a list of str; raise InputError for none, or for one that comes twice."""
    names = [str(name) for name in classes]
    if len(set(names)) != len(names) or not names:
        raise InputError(
            f"Received {len(names)} class names, {len(set(names))} of them different: each needs its own."
        )
    return names


def coded(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return a prediction table as `tables` makes it: `label` and `prediction` are Categoricals of `classes`.

    One that is read back from CSV, with names in these columns, is brought into that form.

    Raises:
        InputError: an empty table, or one that names a class that `classes` lacks.
    """
    if len(predictions) == 0:
        raise InputError("Received a prediction table without rows: predict at least one example.")
    kind = pd.CategoricalDtype(class_names(classes))
    found = {}
    for column in ("label", "prediction"):
        if predictions[column].dtype == kind and not predictions[column].isna().any():
            continue
        # A table read back from CSV has numbers where classes are called "0", "1", ...
        codes = kind.categories.get_indexer(predictions[column].astype(str))
        if (codes < 0).any():
            raise InputError(
                f"The prediction table has {column} {predictions[column].iloc[codes.argmin()]!r}, which is "
                f"none of the {len(classes)} classes ({', '.join(kind.categories[:5])}"
                f"{', ...' if len(classes) > 5 else ''}): give those it was made with."
            )
        found[column] = pd.Categorical.from_codes(codes, dtype=kind)
    return predictions.assign(**found)


def truth_and_prediction(predictions: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of `label` and of `prediction`, int64 (examples,) each; raises as `coded`."""
    table = coded(predictions, classes)
    truth, predicted = (table[column].cat.codes.to_numpy(np.int64) for column in ("label", "prediction"))
    return truth, predicted


def probabilities(predictions: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
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


def _check_logits(name, output, ids, classes):
    if output.shape != (len(ids), len(classes)):
        raise InputError(
            f"Model '{name}' gives outputs of shape {output.shape} for {len(ids)} examples; needed is "
            f"({len(ids)}, {len(classes)}), one logit per class: end it with Dense({len(classes)})."
        )
    broken = ~np.isfinite(output).all(axis=1)
    if broken.any():
        raise InputError(
            f"Model '{name}' gives NaN or infinite logits for {broken.sum()} of {len(ids)} examples (the "
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
    kind = pd.CategoricalDtype(classes)
    table = pd.DataFrame(
        {
            "id": ids.astype(np.int64),
            "label": pd.Categorical.from_codes(labels, dtype=kind),
            "prediction": pd.Categorical.from_codes(logits.argmax(axis=1), dtype=kind),
            "confidence": probabilities.max(axis=1).astype(np.float32),
        }
    )
    columns = pd.DataFrame(probabilities.astype(np.float32), columns=[f"p:{one}" for one in classes])
    return pd.concat([table, columns], axis=1)


def _bootstrap(truth, predicted, number_of_classes, resamples, seed, whole=None):
    """Return accuracy and macro F1, (resamples,) each, of resamples of the examples with replacement.

    Only the cell of the confusion matrix that an example falls into matters, and the cell counts of a
    resample of n examples are multinomial(n, counts / n): draw those instead of examples. Macro F1 is the
    mean of 2 TP / (truth + predicted) over the classes that occur in the resample, as in scikit-learn.
    whole: of `intervals.units`: then groups are drawn, and with each the counts of its examples.
    """
    examples = len(truth)
    cells, cell, counts = np.unique(
        truth.astype(np.int64) * number_of_classes + predicted, return_inverse=True, return_counts=True
    )
    rows, columns = np.divmod(cells, number_of_classes)
    ones, positions, shape = np.ones(len(cells)), np.arange(len(cells)), (len(cells), number_of_classes)
    hit = scipy.sparse.csr_array((ones * (rows == columns), (positions, rows)), shape=shape)
    occurs = scipy.sparse.csr_array((ones, (positions, rows)), shape=shape)
    occurs = occurs + scipy.sparse.csr_array((ones, (positions, columns)), shape=shape)
    random = np.random.default_rng(seed)
    accuracies, macro_f1s = [], []
    groups = 0 if whole is None else int(whole.max()) + 1
    of_group = None
    if whole is not None:
        of_group = scipy.sparse.csr_array((np.ones(examples), (whole, cell)), shape=(groups, len(cells)))
    chunk = max(1, 4_000_000 // max(len(cells), groups))  # 32 MB of counts at a time
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        if of_group is None:
            drawn = random.multinomial(examples, counts / examples, size=size).astype(np.float64)
        else:
            drawn = intervals.drawn(random, groups, None, size) @ of_group
        hits, occurrences = drawn @ hit, drawn @ occurs
        accuracies.append(hits.sum(axis=1) / drawn.sum(axis=1))
        f1 = 2 * hits / np.maximum(occurrences, 1)
        macro_f1s.append(f1.sum(axis=1) / (occurrences > 0).sum(axis=1))
    return np.concatenate(accuracies), np.concatenate(macro_f1s)
