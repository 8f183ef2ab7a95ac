"""Train a small decoder on the docstrings of the packages that are installed, and write it with its card.

    python -m checkpoints.docstrings

made `checkpoints/docstrings_gpt/`, a preset of KerasHub. The sentences are read where they are installed and
not kept; packages under the GPL and its kin are left out, and so is the one that the template of text
generation trains on.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import tyro
from tokenizers import ByteLevelBPETokenizer

from runner.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
UNSEEN = "matplotlib"
"""The package of `datasets/package_docstrings`, which no source of its own may have read."""
END = "<|endoftext|>"
LICENCE = "Apache-2.0"
LAYERS, HEADS, WIDTH = 4, 4, 128
COPYLEFT = re.compile(r"\b[AL]?GPL|General Public", re.IGNORECASE)

_spec = importlib.util.spec_from_file_location(
    "reading", ROOT / "datasets" / "package_docstrings" / "reading.py"
)
reading = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reading)


def main(
    vocabulary: int = 2_000,
    length: int = 128,
    steps: int = 14_000,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    seed: int = 0,
    out: Path = ROOT / "checkpoints" / "docstrings_gpt",
) -> None:
    """Read the docstrings, make byte pairs, train, measure on docstrings held out, write preset and card.

    Args:
        vocabulary: tokens, the bytes and the mark between texts among them.
        length: tokens that the network reads at a time.
        steps: of training, each on as many pieces as batch_size.
        batch_size: pieces of `length` tokens in a step.
        learning_rate: of AdamW at its highest; it falls to 0 along a cosine.
        seed: of the weights and of the pieces.
        out: the folder to write.

    Raises:
        InputError: where fewer than 100 docstrings are installed, and for steps that are none.
    """
    if steps < 1 or batch_size < 1 or length < 2 or vocabulary < 300:
        raise InputError(
            f"Received vocabulary={vocabulary}, length={length}, steps={steps}, batch_size={batch_size}; "
            "allowed are 300, 2, 1 and 1 upwards."
        )
    began = time.time()
    keras.utils.set_random_seed(seed)
    texts, packages = installed()
    if min(map(len, texts.values())) < 100:
        raise InputError("fewer than 100 docstrings are installed; install requirements-dev.txt.")
    tokenizer = byte_pairs(texts["train"], vocabulary)
    streams = {split: stream(tokenizer, some) for split, some in texts.items()}
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary, LAYERS, HEADS, WIDTH, 4 * WIDTH, dropout=0.0, max_sequence_length=length
    )
    model = keras_hub.models.GPT2CausalLM(backbone)
    rise = min(200, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=learning_rate, warmup_steps=rise
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[],
        jit_compile=True,  # an eighth faster
    )
    history = model.fit(
        pieces(streams["train"], length, batch_size, seed),
        steps_per_epoch=max(1, steps // 20),
        epochs=min(20, steps),
        verbose=2,
    ).history["loss"]
    out.mkdir(parents=True, exist_ok=True)
    backbone.save_to_preset(str(out))
    tokenizer.save_to_preset(str(out))
    weights = out / "model.weights.h5"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    measured = {
        split: round(bits(model, streams[split], texts[split], length), 3) for split in ("held_out", "unseen")
    }
    card = {
        "backbone": f"GPT2Backbone-{LAYERS}x{WIDTH}",
        "source": "docstrings of installed packages, examples in code left out",
        "bits_per_character": measured,
        "characters": {split: sum(map(len, some)) for split, some in texts.items()},
        "tokens": {split: len(some) for split, some in streams.items()},
        "loss_of_each_twentieth": [round(one, 3) for one in history],
        "vocabulary": vocabulary,
        "length": length,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "parameters": backbone.count_params(),
        "minutes": round((time.time() - began) / 60, 1),
        "machine": f"{cores} CPU core{'s' * (cores > 1)}, {platform.machine()}",
        "command": "python -m checkpoints.docstrings",
        "licence": LICENCE,
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("tensorflow", "keras", "keras-hub", "tokenizers")},
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "packages": packages,
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(readme(card, weights.stat().st_size), encoding="utf-8")
    print(json.dumps({key: value for key, value in card.items() if key != "packages"}, indent=2))


def installed() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The docstrings of installed packages, each once: {"train", "held_out", "unseen"} to texts, and of each
    package that was trained on its version and licence.

    Of every fiftieth file the docstrings are held out; those of UNSEEN are a split of their own.
    """
    texts: dict[str, list[str]] = {"train": [], "held_out": [], "unseen": []}
    seen, packages = set(), {}
    found = sorted(metadata.distributions(), key=lambda one: str(one.metadata["Name"]).lower())
    # What is unseen comes first, so that nobody else's copy of it is trained on.
    for package in sorted(found, key=lambda one: one.metadata["Name"] != UNSEEN):
        name, licence = package.metadata["Name"], reading.licence(package)
        if not name or not licence or COPYLEFT.search(licence):
            continue
        before = len(texts["train"])
        for file, path in reading.modules(package):
            fiftieth = int(hashlib.sha256(file.encode()).hexdigest(), 16) % 50 == 0
            split = "unseen" if name == UNSEEN else "held_out" if fiftieth else "train"
            for text in reading.docstrings(path):
                if text not in seen:
                    seen.add(text)
                    texts[split].append(text)
        if len(texts["train"]) > before:
            packages[name] = [package.version, licence]
    return texts, packages


def byte_pairs(texts: list[str], vocabulary: int) -> keras_hub.models.GPT2Tokenizer:
    """A tokenizer of byte pairs that are frequent in the texts (Sennrich et al. 2016, arXiv:1508.07909)."""
    maker = ByteLevelBPETokenizer()
    maker.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=[END], show_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        maker.save_model(folder)
        words = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
        merges = (Path(folder) / "merges.txt").read_text(encoding="utf-8").splitlines()
    return keras_hub.models.GPT2Tokenizer(words, [one for one in merges if not one.startswith("#version")])


def stream(tokenizer: keras_hub.models.GPT2Tokenizer, texts: list[str]) -> np.ndarray:
    """The tokens of all texts one after another, END behind each: int32 (tokens,)."""
    tokenize = tf.function(tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)])
    end = np.array([tokenizer.end_token_id], np.int32)
    found = []
    for first in range(0, len(texts), 256):
        for row in tokenize(tf.constant(texts[first : first + 256])):
            found += [row.numpy().astype(np.int32), end]
    return np.concatenate(found)


def pieces(tokens: np.ndarray, length: int, batch_size: int, seed: int) -> tf.data.Dataset:
    """Batches without end of pieces that begin anywhere: what the network reads, and the tokens that come
    next.
    """
    random = np.random.default_rng(seed)

    def batches():
        while True:
            first = random.integers(0, len(tokens) - length, (batch_size, 1))
            both = tokens[first + np.arange(length + 1)]
            yield inputs(both[:, :-1]), both[:, 1:]

    piece = tf.TensorSpec((batch_size, length), tf.int32)
    spec = {"token_ids": piece, "padding_mask": piece}, piece
    return tf.data.Dataset.from_generator(batches, output_signature=spec).prefetch(4)


def inputs(ids: np.ndarray) -> dict[str, np.ndarray]:
    """What a GPT2CausalLM takes of whole pieces."""
    return {"token_ids": ids, "padding_mask": np.ones_like(ids)}


def bits(
    model: keras_hub.models.GPT2CausalLM, tokens: np.ndarray, texts: list[str], length: int, most: int = 200
) -> float:
    """Bits that a character of the texts takes, over the first so many pieces; each token of a piece is told
    from those before it in the piece, so that this is an upper bound.
    """
    whole = min(most, (len(tokens) - 1) // length)
    rows = tokens[: whole * length + 1]
    asked, wanted = rows[:-1].reshape(whole, length), rows[1:].reshape(whole, length)
    nats = model.evaluate(inputs(asked), wanted, batch_size=32, verbose=0)
    return nats * len(tokens) / sum(map(len, texts)) / np.log(2)


def readme(card: dict, size: int) -> str:
    """Return the card for people, in Markdown."""
    losses = ", ".join(f"{one:.2f}" for one in card["loss_of_each_twentieth"])
    measured, characters = card["bits_per_character"], card["characters"]
    licences = "\n".join(f"| {name} | {of} | {said} |" for name, (of, said) in card["packages"].items())
    return f"""# docstrings_gpt

A decoder of {LAYERS} layers of {WIDTH} ({card["parameters"]:,} parameters, {size / 1e6:.1f} MB) that has
read the docstrings of {len(card["packages"])} Python packages: the source of the template that continues
texts, where nothing is downloaded. Use it by name: `weights="docstrings_gpt"`.

| measured on | characters | bits per character |
| --- | --- | --- |
| docstrings of files held out, one in fifty | {characters["held_out"]:,} | {measured["held_out"]:.2f} |
| docstrings of {UNSEEN}, a package held out | {characters["unseen"]:,} | {measured["unseen"]:.2f} |

Over the first 200 pieces of {card["length"]} tokens, each token told from those before it in its piece.

- Data: {characters["train"]:,} characters of docstrings, examples in code left out, read from the packages
  that were installed (below) and not kept here; {card["tokens"]["train"]:,} tokens of
  {card["vocabulary"]:,} byte pairs. {UNSEEN} was left out, and so were packages under the GPL and
  its kin.
- Training: {card["steps"]:,} steps of {card["batch_size"]} pieces of {card["length"]} tokens; AdamW at
  {card["learning_rate"]:g} with a cosine to 0. Loss in nats a token, each a twentieth of the steps:
  {losses}.
  {card["minutes"]:g} minutes on {card["machine"]}.
- Made by `{card["command"]}`; another installation has other docstrings and gives other weights.
- Form: a preset of KerasHub; `keras_hub.models.Backbone.from_preset("checkpoints/docstrings_gpt")` reads it
  without the runner.
- Licence: {card["licence"]}.
- Not for facts, and not for other languages: it has the style of documentation and no knowledge.

All figures, the versions and the SHA-256 of the weights: `card.json`.

| package | version | licence |
| --- | --- | --- |
{licences}
"""


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
