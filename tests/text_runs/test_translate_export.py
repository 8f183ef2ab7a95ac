"""A translator in each format says what the network says, also in a process that has none of our code."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from runner.text_networks import pieces
from runner.text_networks.pieces import Pieces
from runner.text_runs import translate, translate_export
from templates.translation import train
from templates.translation.test_template import small_config, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    verbs = {"falls": "kadu", "waits": "staru", "burns": "bruku"}
    things = {"house": "casa", "car": "auto", "boat": "barka", "tree": "albero"}
    rows = [(f"The {a} {b}.", f"La {things[a]} {verbs[b]}.") for a in things for b in verbs] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAW_CACHE", str(place / "cache"))
        rows = [(f"{text} {number}", f"{target} {number}") for number, (text, target) in enumerate(rows)]
        return train.main(small_config(place, write(place / "pairs.tsv", rows), baselines=False))


def test_each_format_agrees_with_the_network(run, tmp_path):
    found = translate_export.run(run, ("savedmodel", "litert", "onnx"), tmp_path / "out")
    assert {path.name for path in found} == {"savedmodel", "model.tflite", "model.onnx"}
    assert all(difference < 1e-4 for difference in found.values())
    beside = json.loads((tmp_path / "out" / "decision.json").read_text())
    network = translate.load(run)
    names = (tmp_path / "out" / translate_export.WRITTEN).read_text().split("\n")[:-1]
    (decoder,) = [layer.decoder for layer in network.layers if layer.name == "translate"]
    assert tuple(names) == Pieces(decoder.pieces).names

    # The search of the device, as decision.json tells it, writes what greedy search here writes.
    layer = network.get_layer("tokenizer")
    ids = layer(tf.constant(["The house waits. 3"])).numpy()
    greedy = translate.searcher(network, 1)(np.stack([ids, 0 * ids], -1))["found"][0]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    rows = np.stack([ids, np.zeros_like(ids)], -1).astype(np.int32)
    said, piece = [], beside["begin"]
    for place in range(beside["length"]):
        rows[0, place, 1] = piece
        logits = session.run(None, {session.get_inputs()[0].name: rows})[0][0, place]
        logits[beside["never_written"]] = -np.inf
        piece = int(logits.argmax())
        if piece == beside["end_of_translation"]:
            break
        said.append(piece)
    assert "".join(names[one] for one in said).replace(pieces.SPACE, " ").strip() == greedy


def test_a_saved_model_translates_texts_without_our_code(run, tmp_path):
    translate_export.run(run, ("savedmodel",), tmp_path / "out")
    texts = ["The house waits. 3", "The boat burns. 5"]
    expected = [one.decode() for one in translate.load(run)(tf.constant(texts))["translation"].numpy()]
    code = (
        "import tensorflow as tf, tensorflow_text\n"
        f"served = tf.saved_model.load({str(tmp_path / 'out' / 'savedmodel')!r})\n"
        f"print([one.decode() for one in served.serve(tf.constant({texts!r}))['translation'].numpy()])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert found.stdout.strip() == str(expected), found.stderr[-2000:]
