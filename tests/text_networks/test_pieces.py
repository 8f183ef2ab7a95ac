"""Pieces of translations: texts come back from them, in Python as in a graph, and always the same."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.text_networks import pieces
from runner.text_networks.pieces import BEGIN, END, PADDING, SPECIAL, UNKNOWN, Pieces, Written

TEXTS = [
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "Mehrere Männer mit Schutzhelmen bedienen ein Antriebsradsystem.",
    "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
    "„Nicht so schnell!“, sagte er – und ging (leise) weiter: 3,5 % mehr.",
]


@pytest.fixture(scope="module")
def found() -> Pieces:
    return pieces.learn(TEXTS * 2, 150)


def test_texts_come_back_from_their_pieces_in_python_and_in_a_graph(found):
    ids = found.encode(TEXTS)
    assert [found.decode(one) for one in ids] == TEXTS and len(found) <= 150
    rows = np.full((len(TEXTS), 90), PADDING, np.int32)
    for row, one in enumerate(ids):
        rows[row, : len(one) + 2] = [*one, END, one[0]]  # what stands behind the end is not read
    said = tf.function(Written(found.written))(tf.constant(rows))
    assert [one.decode() for one in said.numpy()] == TEXTS
    assert found.encode(["  Ein\tkleines\n Mädchen "]) == found.encode(["Ein kleines Mädchen"])


def test_the_first_ids_are_not_written(found):
    assert found.names[:4] == SPECIAL
    assert found.decode([BEGIN, UNKNOWN, *found.encode(["Ein"])[0], PADDING]) == "Ein"
    assert UNKNOWN in found.encode(["日本"])[0]
    assert found.encode([""]) == [[]] and found.decode([]) == ""


def test_frequent_words_are_one_piece_and_share_none_with_marks(found):
    many = pieces.learn(["Hund, Katze."] * 3, 200)
    assert [many.names[one] for one in many.encode(["Hund, Katze."])[0]] == ["▁Hund", ",", "▁Katze", "."]
    # A word that came once stays in parts.
    rare = pieces.learn(["ab ab ab xyz"], 200)
    assert [rare.names[one] for one in rare.encode(["xyz"])[0]] == ["▁", "x", "y", "z"]


def test_the_same_texts_give_the_same_pieces_in_another_process(found):
    code = f"from runner.text_networks import pieces; print(pieces.learn({TEXTS * 2!r}, 150).digest())"
    root = Path(__file__).parents[2]
    for _ in range(2):
        again = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
        assert again.stdout.strip() == found.digest(), again.stderr


def test_the_layer_is_saved_with_all_that_it_needs(found, tmp_path):
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, Written(found.written, name="written")(ids))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again(tf.constant(found.encode(TEXTS[:1]))).numpy()[0].decode() == TEXTS[0]
