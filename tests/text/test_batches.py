"""Batches of tokenised texts hold all of each text that is read, and hardly more."""

import keras_hub
import numpy as np
import pandas as pd

from runner.text.batches import batches
from runner.text.load import load

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(60))]


def test_batches_are_as_long_as_their_longest_text_and_texts_that_are_cut_off_as_all(tmp_path):
    random = np.random.default_rng(0)
    said = [" ".join(random.choice(WORDS[5:], random.integers(2, 60))) for _ in range(80)]
    table = pd.DataFrame({"text": said, "label": ["a", "b"] * 40})
    table.to_csv(tmp_path / "a.csv", index=False)
    loaded = load(tmp_path / "a.csv", keras_hub.models.BertTokenizer(WORDS), 30)
    made = batches(loaded, "train", 8, shuffle=True, seed=1, weights=np.arange(80, dtype="float32"))
    seen = []
    for batch in made.named():
        ids, rows = batch["id"].numpy(), batch["input"].numpy()
        read = np.minimum(loaded.manifest["tokens"].to_numpy()[ids], 30)
        assert rows.shape[1] == min(-(-read.max() // 8) * 8, 30)
        assert ((rows != 0).sum(axis=1) == read).all() and (rows[np.arange(len(ids)), read - 1] == 3).all()
        np.testing.assert_array_equal(batch["weight"], ids)
        seen += ids.tolist()
    assert (
        loaded.length == 30 and sorted(seen) == np.flatnonzero(loaded.manifest["split"] == "train").tolist()
    )
