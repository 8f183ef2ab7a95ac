"""Texts that a network continues: compiled once for each length, with a memory of what was computed before.

    go_on = generate.Continuer(network, tokenizer, sampler="top-p")
    go_on(["The function returns"], new_tokens=40)

The samplers are KerasHub's: greedy, top-k (Fan et al. 2018, arXiv:1805.04833), top-p (Holtzman et al. 2020,
arXiv:1904.09751) and beam search.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.errors import InputError
from runner.text_networks import decoders, tokens, words
from runner.text_runs import export, predict

SAMPLERS = ("greedy", "top-k", "top-p", "beam")
TOP_K, TOP_P, BEAMS = 40, 0.9, 4
ROUNDED = 16
"""Rows are a multiple of so many tokens long: few lengths to compile for."""


def sampler(name: str, temperature: float, seed: int) -> Any:
    """A sampler of KerasHub; raises InputError for a name that there is not.

    temperature: above 0; what logits are divided by before a token is drawn. Greedy and beam search draw
    none, and take it for nothing.
    """
    import keras_hub

    made: dict[str, Callable[[], Any]] = {
        "greedy": keras_hub.samplers.GreedySampler,
        "top-k": lambda: keras_hub.samplers.TopKSampler(k=TOP_K, seed=seed, temperature=temperature),
        "top-p": lambda: keras_hub.samplers.TopPSampler(p=TOP_P, seed=seed, temperature=temperature),
        "beam": lambda: keras_hub.samplers.BeamSampler(num_beams=BEAMS),
    }
    if name not in made:
        raise InputError(f"sampler {name!r} is not known; give one of {', '.join(SAMPLERS)}.")
    if not temperature > 0:
        raise InputError(f"temperature {temperature!r} is not allowed; give a number above 0.")
    return made[name]()


class Continuer:
    """Continues texts with a network of `decoders.copy` and its tokenizer.

    A text that is longer than the network has positions for is continued from its last half of them, and so
    is what grows beyond. `tokens` counts the tokens that were made.
    """

    def __init__(
        self,
        network: keras.Model,
        tokenizer: Any,
        sampler_name: str = "top-p",
        temperature: float = 1.0,
        seed: int = 0,
    ):
        self.network, self.tokenizer = network, tokenizer
        self.sampler, self.seed = sampler(sampler_name, temperature, seed), seed
        self.room = decoders.positions(network)
        self.end = tokens.special(tokenizer)[1]
        self.tokens = 0
        self._compiled: dict[int, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {}

    def __call__(self, prompts: Sequence[str], new_tokens: int = 64) -> list[str]:
        """What comes behind each prompt: of at most so many tokens, fewer where the text ends before.

        Raises InputError for a number of tokens below 1.
        """
        if new_tokens < 1:
            raise InputError(f"new_tokens={new_tokens} is not allowed; give a whole number from 1.")
        rows = [[self.end, *one] for one in tokens.ids(self.tokenizer, list(prompts))]
        made: list[list[int]] = [[] for _ in rows]
        going = list(range(len(rows)))
        at_once = min(new_tokens, max(1, self.room // 2))
        while going:
            size = min(at_once, new_tokens - len(made[going[0]]))
            before = [(rows[one] + made[one])[-(self.room - size) :] for one in going]
            for one, found in zip(going, self._some(before, size), strict=True):
                made[one] += found
            self.tokens += size * len(going)
            going = [one for one in going if len(made[one]) < new_tokens and self.end not in made[one]]
        cut = [one[: one.index(self.end)] if self.end in one else one for one in made]
        return self._texts(cut)

    def begin_anew(self) -> None:
        """Draw the same random numbers as at first, from the weights that the network has by now."""
        generator = getattr(self.sampler, "seed_generator", None)
        if generator is not None:
            generator.state.assign(keras.random.SeedGenerator(self.seed).state)

    def _texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        if not rows:
            return []
        found = self.tokenizer.detokenize(tf.ragged.constant(rows, tf.int32, ragged_rank=1))
        return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in found]

    def _some(self, before: Sequence[Sequence[int]], size: int) -> list[list[int]]:
        """The next `size` tokens of each row."""
        lengths = [len(row) for row in before]
        width = min(self.room, -(-(max(lengths) + size) // ROUNDED) * ROUNDED)
        ids = np.full((len(before), width), self.end, np.int32)
        for row, one in enumerate(before):
            ids[row, : len(one)] = one
        found = self._function(width)(tf.constant(ids), tf.constant(lengths, tf.int32)).numpy()
        return [found[row, length : length + size].tolist() for row, length in enumerate(lengths)]

    def _function(self, width: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        if width not in self._compiled:
            self._compiled[width] = tf.function(
                lambda ids, lengths: self._whole(ids, lengths, width),
                input_signature=[tf.TensorSpec([None, width], tf.int32), tf.TensorSpec([None], tf.int32)],
                autograph=False,
            ).get_concrete_function()
        return self._compiled[width]

    def _whole(self, ids: tf.Tensor, lengths: tf.Tensor, width: int) -> tf.Tensor:
        given = tf.sequence_mask(lengths, width)
        index = tf.reduce_min(lengths)
        memory = decoders.cache(self.network, tf.shape(ids)[0], width)
        # All of the prompts at once; what is behind them is written over when it is reached.
        _, memory = decoders.step(self.network, ids, memory, 0)

        def following(prompt: Any, memory: Any, place: Any) -> tuple[Any, Any, Any]:
            last = keras.ops.slice(prompt, [0, place - 1], [keras.ops.shape(prompt)[0], 1])
            logits, memory = decoders.step(self.network, last, memory, place - 1)
            return logits[:, 0], None, memory

        return self.sampler(
            next=following, prompt=ids, cache=memory, index=index, mask=given, stop_token_ids=None
        )


def longest_copied(text: str, sources: str) -> int:
    """Characters of the longest part of a text that stands in `sources` as it is."""
    longest, first = 0, 0
    while first + longest < len(text):
        # One longer than the best so far, or nothing from here is of interest.
        if text[first : first + longest + 1] in sources:
            longest += 1
        else:
            first += 1
    return longest


def tables(
    run_folder: str | Path,
    inputs: Iterable[str | Path],
    *,
    sampler_name: str,
    temperature: float,
    new_tokens: int,
    seed: int,
    batch_size: int = 64,
) -> Iterator[pd.DataFrame]:
    """How a run goes on with texts: a table for each batch, a row per text.

    Columns text (a file, FILE:LINE of a table, or the text itself), continuation, note. The index is the
    number of the text. Raises InputError for a folder that is no complete run of a decoder, and what
    `predict.texts` and `sampler` raise.
    """
    go_on = of_run(run_folder, sampler_name, temperature, seed)
    stream, first = predict.texts(list(inputs)), 0
    while some := list(islice(stream, batch_size)):
        names, said, notes = (list(part) for part in zip(*some, strict=True))
        readable = [row for row, text in enumerate(said) if text is not None]
        found = go_on([said[row] for row in readable], new_tokens) if readable else []
        of_row = dict(zip(readable, found, strict=True))
        continued = [of_row.get(row) for row in range(len(some))]
        index = pd.RangeIndex(first, first + len(some), name="number")
        yield pd.DataFrame({"text": names, "continuation": continued, "note": notes}, index)
        first += len(some)


def of_run(run_folder: str | Path, sampler_name: str, temperature: float, seed: int) -> Continuer:
    """A `Continuer` with the network of a run; raises InputError for one that is no complete run of a
    decoder.
    """
    network, _, _ = predict.load(run_folder)
    if not decoders.is_one(network):
        raise InputError(f"{run_folder}: its network continues no texts; give a run of text_generation.")
    layer = words.tokenizer(network)
    return Continuer(export.of_ids(network, None), layer.tokenizer, sampler_name, temperature, seed)
