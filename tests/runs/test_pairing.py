"""Two runs on the same test examples, by the area under the ROC curve."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from runner.runs import pairing


def write(folder, labels, p, ids):
    """The tables of a run that numbers the examples so; their contents go by the places of their labels."""
    folder.mkdir()
    order = np.argsort(ids)
    manifest = pd.DataFrame({"path": "", "split": "test", "group": "", "label": labels[order]})
    manifest["sha256"] = [f"row {place}" for place in order]
    manifest.to_csv(folder / "manifest.csv", index=False)
    answers = pd.DataFrame({"id": ids, "label": labels, "p:no": 1 - p, "p:yes": p})
    answers.to_csv(folder / "predictions.csv", index=False)


def test_areas_are_compared_row_by_row_whatever_the_numbers_of_the_rows(tmp_path):
    random = np.random.default_rng(0)
    labels = np.where(random.random(200) < 0.4, "yes", "no")
    first, second = (random.normal(strength * (labels == "yes")) for strength in (0.5, 2.0))
    first, second = (1 / (1 + np.exp(-one)) for one in (first, second))
    write(tmp_path / "a", labels, first, np.arange(200))
    write(tmp_path / "b", labels, second, random.permutation(200))
    found = pairing.of_runs(tmp_path / "a", tmp_path / "b", "roc_auc")
    wanted = [sklearn.metrics.roc_auc_score(labels == "yes", one) for one in (first, second)]
    assert found.number == "ROC AUC" and found.difference.examples == 200
    assert found.difference.value == pytest.approx(wanted[1] - wanted[0], abs=1e-6)
    assert 0 < found.difference.low < found.difference.high


def test_other_classes_are_no_pair(tmp_path):
    labels = np.array(["no", "yes"] * 10)
    for name in "ab":
        write(tmp_path / name, labels, np.linspace(0.1, 0.9, 20), np.arange(20))
    answers = pd.read_csv(tmp_path / "b" / "predictions.csv").rename(columns={"p:yes": "p:perhaps"})
    answers.to_csv(tmp_path / "b" / "predictions.csv", index=False)
    assert pairing.of_runs(tmp_path / "a", tmp_path / "b", "roc_auc") == "the runs tell other classes apart"
