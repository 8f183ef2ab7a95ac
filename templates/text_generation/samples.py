"""How networks go on with beginnings of passages: each method with those of the test, and one network with
those of validation, as each stage leaves it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from runner import atomic
from runner.data.examples import ids
from runner.text.load import Texts
from runner.text_runs import generate

from . import model
from .config import Config

PROMPTS, PROMPTS_OF_STAGES, BEFORE, SHOWN = 6, 3, 80, 400
"""How many passages are gone on with by each method and after each stage, after how many characters, and how
many of their author's are kept."""
SEARCHED = 5_000_000
"""Characters of the training texts in which copied parts are looked for: each search goes through all."""
TRUE = "the author's"
START = "as it began"
FILE = "by_stage.csv"


def continued(
    config: Config, examples: Texts, networks: Mapping[str, object], test: Sequence[int]
) -> pd.DataFrame:
    """How each network goes on with the beginnings of a few test passages, and how their authors do.

    test: the rows of the manifest that were tested. Columns passage, method, prompt, continuation, copied:
    characters of the longest part that stands in the training texts, of which the first SEARCHED characters
    are looked at.
    """
    starts = beginnings(examples, test, PROMPTS)
    rows = []
    for name, network in networks.items():
        if isinstance(network, keras.Model):
            found = _continuer(config, examples, network)(list(starts.values()), config.new_tokens)
            rows += _rows(name, found, starts)
    return _table(examples, rows + _authors(examples, starts), starts, "method")


def of_stages(config: Config, examples: Texts, path: Path) -> Callable[[str, keras.Model], None]:
    """What `fit_stages` calls after each stage: it has the network go on with some validation passages and
    writes what came into the file `path`, whole or not at all, which keeps what earlier stages said.

    Columns passage, stage, prompt, continuation, copied, as of `continued`.
    """
    starts = beginnings(examples, ids(examples.manifest, "val").tolist(), PROMPTS_OF_STAGES)
    compiled: dict[int, generate.Continuer] = {}

    def tell(stage: str, network: keras.Model) -> None:
        before = read(path)
        # A stage whose end was lost in an interruption ends a second time.
        before = before[before["stage"] != stage]
        # Traced once, which takes longer than all else here; LoRA makes another network of it.
        count = len(network.variables)
        if count not in compiled:
            compiled[count] = _continuer(config, examples, network)
        compiled[count].begin_anew()
        rows = _rows(stage, compiled[count](list(starts.values()), config.new_tokens), starts)
        now = _table(examples, rows, starts, "stage")
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_csv(path, pd.concat([before, now]) if len(before) else now)

    return tell


def read(path: Path) -> pd.DataFrame:
    """What `of_stages` has written so far; an empty table where that is nothing."""
    if not path.is_file():
        return pd.DataFrame(columns=["passage", "stage", "prompt", "continuation", "copied"])
    return pd.read_csv(path, keep_default_na=False)


def with_authors(examples: Texts, told: pd.DataFrame) -> pd.DataFrame:
    """The table of `of_stages`, passage by passage, with what their authors wrote at the end of each."""
    if not len(told):
        return told
    starts = dict(zip(told["passage"], told["prompt"], strict=True))
    own = _table(examples, _authors(examples, starts), starts, "stage")
    return pd.concat([told, own]).sort_values("passage", kind="stable").reset_index(drop=True)


def beginnings(examples: Texts, numbers: Sequence[int], most: int) -> dict[int, str]:
    """The first words of at most so many passages, evenly spaced among those that are long enough."""
    long = [one for one in numbers if examples.manifest.loc[one, "characters"] >= 2 * BEFORE]
    chosen = [long[at] for at in np.linspace(0, len(long) - 1, min(most, len(long))).astype(int)]
    return {int(one): _beginning(examples.texts[one]) for one in dict.fromkeys(chosen)}


def _continuer(config: Config, examples: Texts, network: keras.Model) -> generate.Continuer:
    return generate.Continuer(
        model.of_ids(network),
        examples.tokenizer,
        config.sampler,
        config.temperature,
        config.machine.seed,
    )


def _rows(name: str, found: Sequence[str], starts: Mapping[int, str]) -> list[tuple[int, str, str]]:
    return [(one, name, text) for one, text in zip(starts, found, strict=True)]


def _authors(examples: Texts, starts: Mapping[int, str]) -> list[tuple[int, str, str]]:
    return [(one, TRUE, examples.texts[one][len(prompt) :][:SHOWN]) for one, prompt in starts.items()]


def _table(
    examples: Texts, rows: Sequence[tuple[int, str, str]], starts: Mapping[int, str], by: str
) -> pd.DataFrame:
    """With the prompt of each row, and how much of its text is copied."""
    sources = "\n".join(examples.texts[one] for one in ids(examples.manifest, "train"))[:SEARCHED]
    return pd.DataFrame(
        [(one, name, starts[one], text, generate.longest_copied(text, sources)) for one, name, text in rows],
        columns=["passage", by, "prompt", "continuation", "copied"],
    )


def _beginning(text: str) -> str:
    """The first words of a text, BEFORE characters or fewer, to the end of a word."""
    cut = text[:BEFORE]
    end = max((at for at, one in enumerate(cut) if one.isspace()), default=0)
    return cut[:end] if end else cut
